// What the chain says of an answer, in words and figures. Pure: the sentences promise no more than was checked.

const NMYL_PER_MYL = 1e9;

const LEAST_MYL_NMYL = 100_000;

/** 163200000 -> "0.1632 MYL"; 7380 -> "7,380 nmyl", as four decimals of MYL would hide it; null -> null. */
export function formatMyl(nmyl) {
  if (!Number.isFinite(nmyl)) return null;
  if (nmyl !== 0 && Math.abs(nmyl) < LEAST_MYL_NMYL) return `${nmyl.toLocaleString("en")} nmyl`;
  return `${(nmyl / NMYL_PER_MYL).toLocaleString("en", { maximumFractionDigits: 4 })} MYL`;
}

/** 0.1532 -> "0.15 s", 12.34 -> "12.3 s". */
export const formatSeconds = (seconds) => `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;

export const shortenHex = (hex) => (hex.length > 16 ? `${hex.slice(0, 8)}…${hex.slice(-6)}` : hex);

/** State -> what the badge says, its tone, and a sentence that says honestly what it means. */
const STATES = {
  pending: {
    label: "settling",
    tone: "wait",
    text: () => "The answer is here; its settlement is not on the chain yet. Nobody has been paid.",
  },
  settled: {
    label: "settled",
    tone: "wait",
    text: () => "The workers' commitments to what they computed are on the chain. A random beacon draws which parts are recomputed.",
  },
  paid: {
    label: "paid, not all checked",
    tone: "plain",
    text: (drawn, count) =>
      drawn === 0
        ? "No part of this request was drawn, so the workers were paid unverified. They could not know that beforehand; nobody has recomputed this answer."
        : `${drawn} of ${count} workers' parts ${drawn === 1 ? "was" : "were"} drawn and recomputed, with the same result. The others were not drawn: they were paid unverified.`,
  },
  verified: {
    label: "verified",
    tone: "good",
    text: () =>
      "Every worker's part was drawn: verifiers recomputed one window of each and got the same within the threshold. A window is a part of the answer, not the whole.",
  },
  refunded: {
    label: "refunded",
    tone: "warn",
    text: () =>
      "A part could not be checked, because its worker was unavailable or the verifiers reached no verdict. Its price came back to the payer; nothing was proven wrong, and nothing right.",
  },
  slashed: {
    label: "proven wrong",
    tone: "bad",
    text: () =>
      "Verifiers recomputed a drawn part and proved it wrong. Its worker was slashed and the payer compensated. Do not rely on this answer.",
  },
  lost: {
    label: "never settled",
    tone: "plain",
    text: () => "The workers never settled this request: nothing was paid, nothing is committed on the chain, and nothing can be checked.",
  },
  cancelled: { label: "not charged", tone: "plain", text: () => "Nothing was charged for this request, and there is nothing to settle." },
};

/** {label, tone, text} of a state; `stages` are those of the chain, where they are known. */
export function describeState(state, stages = []) {
  const known = Object.hasOwn(STATES, state) ? STATES[state] : null;
  if (!known) return { label: String(state), tone: "plain", text: "The gateway gave this state; this page has no words for it." };
  return { ...known, text: known.text(stages.filter((one) => one.drawn).length, stages.length) };
}

/** The states of one answer's requests as one: what should worry most comes first. */
export function joinStates(states) {
  const order = ["slashed", "refunded", "lost", "pending", "settled", "paid", "verified"];
  const known = order.find((one) => states.includes(one));
  return known ?? states[0] ?? null;
}

/** A stage's outcome in words. */
export function describeStage(stage) {
  if (!stage) return "not settled yet";
  const status = String(stage.status ?? "").toLowerCase();
  if (status === "slashed") return "wrong: slashed";
  if (status === "refunded") return "unchecked: refunded";
  if (status === "paid") return stage.drawn ? "recomputed: same" : "not drawn: paid";
  if (status === "challenged") return "drawn: being recomputed";
  return "awaiting the draw";
}

/** [{worker, start, end, prefill_price, decode_price, stage}] of an answer: its path joined with what became of it. */
export function listStages(path, proof) {
  const stages = Array.isArray(proof?.stages) ? proof.stages : [];
  const base = path?.length ? path : stages;
  return base.map((one, index) => ({
    ...one,
    stage: stages.find((stage) => stage.worker === one.worker && stage.start === one.start) ?? (path?.length ? null : stages[index]),
  }));
}

/** Requests of an answer, each with what is known by now: {id, cost, returned, state, isFinal, proof}. */
export function listRequests(node) {
  return (node.requests ?? []).filter((request) => request.id).map((request) => {
    const proof = node.proofs?.[request.id];
    return {
      id: request.id,
      cost: proof?.price_nmyl ?? request.cost_nmyl ?? null,
      returned: proof?.returned_nmyl ?? 0,
      state: proof?.state ?? request.state ?? "pending",
      isFinal: Boolean(proof?.final),
      proof,
    };
  });
}

/** nmyl of all requests of an answer after what came back; null while no price is known. */
export function sumCost(requests) {
  const known = requests.filter((one) => Number.isFinite(one.cost));
  return known.length ? known.reduce((sum, one) => sum + one.cost - one.returned, 0) : null;
}

/** Tokens of an answer: as its stream told, or, of one that was stopped, as its requests do. null: not known. */
export function countTokens(node, requests) {
  if (Number.isFinite(node.usage?.completion)) return node.usage.completion;
  const known = requests.map((one) => one.proof?.generated_tokens).filter(Number.isFinite);
  return known.length ? known.reduce((sum, one) => sum + one, 0) : null;
}
