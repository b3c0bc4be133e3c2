// Server-sent events: text in, the `data` of each whole event out. Knows neither JSON nor the network.

const EVENT_CHARS_MAX = 4 << 20;

export class EventTooLarge extends Error {}

/** Reads a stream of text in pieces cut anywhere; comments (`: ping`) and fields other than `data` are passed over. */
export class EventReader {
  #rest = "";
  #data = [];
  #size = 0;

  /** The data of every event that `text` completes. */
  feed(text) {
    const events = [];
    this.#rest += text;
    // A lone \r at the end may be the first half of \r\n: it waits.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push(this.#data.join("\n"));
        this.#data = [];
        this.#size = 0;
      } else if (line.startsWith("data:")) {
        this.#size += line.length;
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    if (this.#size + this.#rest.length > EVENT_CHARS_MAX) throw new EventTooLarge("an event of the stream has no end");
    return events;
  }
}
