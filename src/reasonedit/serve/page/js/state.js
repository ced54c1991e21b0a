/** What the page remembers while it is open: what is asked about, and the last questions. */

const MOST = 3;

export const state = {
  /** What the page of questions shows: `{picture, sample, question, choices}`. */
  asked: null,
  /** The last questions asked, newest first, whose answers a correction may change. */
  recent: [],
  /** Keep a question that was asked. */
  remember(query) {
    const others = this.recent.filter((one) => one.image !== query.image || one.question !== query.question);
    this.recent = [query, ...others].slice(0, MOST);
  },
};
