// A text as markdown, block by block: while an answer streams, only the block that grows is drawn anew.

import { renderBlock, splitBlocks } from "../markdown.js";
import { Component, html } from "../vendor/htm-preact.js";

export class Text extends Component {
  shouldComponentUpdate(next) {
    return next.text !== this.props.text;
  }

  render({ text }) {
    return html`<div class="prose">${splitBlocks(text).map((block, index) => html`<${Block} key=${index} block=${block} />`)}</div>`;
  }
}

class Block extends Component {
  shouldComponentUpdate(next) {
    return next.block.mark !== this.props.block.mark;
  }

  componentDidMount() {
    this.base.replaceChildren(renderBlock(this.props.block));
  }

  componentDidUpdate() {
    this.componentDidMount();
  }

  render() {
    return html`<div class="block"></div>`;
  }
}
