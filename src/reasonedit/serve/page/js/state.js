/** What the page remembers while it is open: what is asked about, and the last questions. */

const MOST = 3;

export const state = {
  /** What the page of questions shows: `{picture, sample, question, choices}`. */
  asked: null,
  /** The last questions asked, newest first, whose answers a correction may change. */
  recent: [],
  /**
   * The last questions that fit into one request with another picture.
   * @param {number} bytes How many bytes there are for them.
   * @param {{image: string, question: string}} but The question that is corrected, which is asked anyway.
   */
  others(bytes, but) {
    let left = bytes;
    return this.recent.filter((one) => {
      if (one.image === but.image && one.question === but.question) return false;
      left -= one.image.length;
      return left > 0;
    });
  },
  /** Keep a question that was asked. */
  remember(query) {
    const others = this.recent.filter((one) => one.image !== query.image || one.question !== query.question);
    this.recent = [query, ...others].slice(0, MOST);
  },
};
