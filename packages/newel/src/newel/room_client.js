/**
 * newel's rooms for a page: one websocket for all of them. When it breaks it comes back, and what
 * was said meanwhile follows, each message once; where that is not certain the page is told.
 *
 *   const rooms = new RoomClient({ ticket: fetchTicket });
 *   const chat = rooms.join("chat:42");
 *   chat.on("said", ({ data, from }) => show(from, data.text));
 *   chat.on("gap", loadEverything); // messages may be missing
 *   await chat.send("said", { text: "hello" }); // committed and sent on
 *
 * @typedef {{type: string, data: any, timestamp: string, room?: string, offset?: number|null,
 *   from?: string|null}} Message
 * @typedef {{offset: number|null, epoch: string|null}} Sent
 * @typedef {"connecting"|"open"|"waiting"|"stopped"} State
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const PING_MS = 25_000; // more often than what proxies take for a dead connection
const SILENCE_MS = 10_000; // after a ping
const REMEMBERED = 1_000; // as many as a server sends again
const [RESTARTS, UNAUTHENTICATED] = [1012, 4401];
const FOR_GOOD = [4400, 4403]; // trying again would end the same way
const TOO_MUCH = [4009, 4429]; // trying again soon would as well

class Listeners {
  /** @type {Map<string, Set<(value: any) => void>>} */
  #byType = new Map();

  /** @param {string} type @param {(value: any) => void} listener @returns what ends it */
  on(type, listener) {
    const all = this.#byType.get(type) ?? new Set();
    this.#byType.set(type, all.add(listener));
    return () => void all.delete(listener);
  }

  /** @param {string} type @param {any} value */
  tell(type, value) {
    for (const listener of this.#byType.get(type) ?? []) {
      try {
        listener(value);
      } catch (error) {
        reportError(error); // one listener's mistake is not the others'
      }
    }
  }
}

/**
 * One room. Its listeners hear the service's own messages (a `Message`), and `joined` (`{members,
 * member_count, recovered}`), `gap` (messages may be missing: read again what you need) and `error`.
 */
export class Room extends Listeners {
  /** @type {Set<number>} */
  #seen = new Set();
  /** @type {number[]} own messages since it was joined: these come again only when it resumes */
  #sent = [];
  /** @type {{epoch: string, offset: number}|undefined} the last message seen */
  #position;
  #wasIn = false;
  #client;

  /** @param {RoomClient} client @param {string} name */
  constructor(client, name) {
    super();
    this.#client = client;
    this.name = name;
  }

  /**
   * Say something; resolves when it was committed and sent on. Rejects with what is wrong with it
   * in `error.data`, or without `data` when the connection broke: then nobody knows.
   * @param {string} type @param {object} [data] */
  send(type, data = {}) {
    return this.#client.request({ type, room: this.name, data });
  }

  /** Leave it, and hear nothing more of it. */
  leave() {
    this.#client.leave(this);
  }

  /** What to say to be in it, again. */
  joining() {
    return { type: "join", room: this.name, ...(this.#position && { data: this.#position }) };
  }

  /** @param {Message} message */
  take(message) {
    const { type, data } = message;
    if (type === "joined") return this.#joined(data);
    if (type === "sent") return this.#said(data.offset);
    if (typeof message.offset === "number" && !this.#isNew(message.offset)) return;
    if (type === "error") this.tell(type, data);
    else if (type !== "left") this.tell(type, message);
  }

  /** @param {{epoch: string|null, offset: number, recovered: boolean}} data */
  #joined(data) {
    if (data.recovered) { // the messages missed follow, and move it
      for (const offset of this.#sent) this.#remember(offset);
    } else {
      this.#seen.clear();
      this.#position = data.epoch === null ? undefined : { epoch: data.epoch, offset: data.offset };
    }
    this.#sent = [];
    this.tell("joined", data);
    if (this.#wasIn && !data.recovered) this.tell("gap", data);
    this.#wasIn = true;
  }

  /** @param {number} offset */
  #isNew(offset) {
    if (this.#seen.has(offset)) return false;
    this.#remember(offset);
    if (this.#position && offset > this.#position.offset) this.#position.offset = offset;
    return true;
  }

  /** @param {number} offset */
  #remember(offset) {
    this.#seen.add(offset);
    if (this.#seen.size > REMEMBERED) this.#seen.delete([...this.#seen.keys()][0]);
  }

  /** What others said before may still be on its way. @param {number|null} offset */
  #said(offset) {
    if (offset === null) return;
    this.#sent.push(offset);
    if (this.#sent.length > REMEMBERED) this.#sent.shift();
    if (offset - 1 === this.#position?.offset) this.#position.offset = offset;
  }
}

/** A connection, and the rooms joined on it. Tells of `state` (`{state, code, reason, seconds}`). */
export class RoomClient extends Listeners {
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Map<string, {resolve: (sent: Sent) => void, reject: (error: Error) => void}>} */
  #asked = new Map();
  /** @type {WebSocket|undefined} */
  #socket;
  /** @type {State} */
  state = "waiting";
  #tries = 0;
  #refusals = 0;
  #number = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #url;
  #ticket;

  /**
   * Connect, and stay connected until `close`. `ticket` fetches a new ticket, `null` when nobody is
   * logged in; it is asked before each connection, because a ticket is good once.
   * @param {{ticket: () => Promise<string|null>, url?: string|URL}} options
   */
  constructor({ ticket, url = new URL("ws", import.meta.url) }) {
    super();
    this.#ticket = ticket;
    this.#url = new URL(url, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    addEventListener("online", this.#retry);
    void this.#connect();
  }

  /** @param {string} name such as `chat:42`; joined now and after each break, until it is left */
  join(name) {
    const room = this.#rooms.get(name) ?? new Room(this, name);
    if (!this.#rooms.has(name) && this.state === "open") this.#say(room.joining());
    this.#rooms.set(name, room);
    return room;
  }

  /** @param {Room} room */
  leave(room) {
    if (this.#rooms.get(room.name) !== room) return;
    this.#rooms.delete(room.name);
    if (this.state === "open") this.#say({ type: "leave", room: room.name });
  }

  /** @param {{type: string, room: string, data: object}} message @returns {Promise<Sent>} */
  request(message) {
    if (this.state !== "open") return Promise.reject(new Error("not connected"));
    const id = String(++this.#number);
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#say({ ...message, id });
    });
  }

  /** Close the connection for good. */
  close() {
    this.#stop(1000, "closed by the page");
  }

  /** @param {object} message */
  #say(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {State} state @param {{code?: number, reason?: string, seconds?: number}} [details] */
  #turn(state, details) {
    this.state = state;
    this.tell("state", { state, ...details });
  }

  async #connect() {
    this.#turn("connecting");
    const ticket = await (async () => this.#ticket())().catch(() => undefined);
    if (this.state !== "connecting") return; // closed meanwhile
    if (ticket === null) return this.#stop(UNAUTHENTICATED, "nobody is logged in");
    if (ticket === undefined) return this.#wait(1006, "no ticket could be fetched");
    const url = new URL(this.#url);
    url.searchParams.set("ticket", ticket);
    const socket = (this.#socket = new WebSocket(url));
    socket.onmessage = ({ data }) => {
      for (const message of [JSON.parse(data)].flat()) {
        if (socket === this.#socket) this.#take(message); // a listener may have closed it
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#closed(code, reason);
    };
    this.#expect();
  }

  /** Take silence for a broken connection: a browser does not notice one. */
  #expect() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.state === "open") this.#say({ type: "ping" });
      this.#timer = setTimeout(() => this.#closed(1006, "nothing was heard"), SILENCE_MS);
    }, PING_MS);
  }

  /** @param {Message} message */
  #take(message) {
    const { type, data } = message;
    this.#expect();
    if (type === "welcome") {
      this.#tries = this.#refusals = 0;
      this.#turn("open");
      for (const room of this.#rooms.values()) this.#say(room.joining());
      return;
    }
    const asked = type === "sent" || type === "error" ? this.#asked.get(data.id) : undefined;
    if (asked) this.#asked.delete(data.id);
    const room = this.#rooms.get(message.room ?? "");
    if (asked && type === "error") asked.reject(Object.assign(new Error(data.detail), { data }));
    else if (room) room.take(message);
    else if (type === "error") this.tell(type, data);
    if (type === "sent") asked?.resolve(data);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    this.#drop(reason);
    if (FOR_GOOD.includes(code) || (code === UNAUTHENTICATED && this.#refusals > 0)) {
      this.#stop(code, reason);
    } else if (code === UNAUTHENTICATED) {
      this.#refusals += 1; // with a new ticket it is let in, or it stops
      void this.#connect();
    } else this.#wait(code, reason);
  }

  /** Wait for longer each time, and not as long as all who were cut off at the same moment.
   * @param {number} code @param {string} reason */
  #wait(code, reason) {
    if (TOO_MUCH.includes(code)) this.#tries = Math.max(this.#tries, 4);
    const doubled = code === RESTARTS ? 1 : 2 ** this.#tries++;
    const delay = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * doubled) * (0.5 + Math.random() / 2);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#retry, delay);
    this.#turn("waiting", { code, reason, seconds: delay / 1000 });
  }

  #retry = () => {
    if (this.state !== "waiting") return;
    clearTimeout(this.#timer);
    void this.#connect();
  };

  /** @param {string} reason */
  #drop(reason) {
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = undefined; // what it still says is not heard
    for (const one of this.#asked.values()) one.reject(new Error(reason || "the connection broke"));
    this.#asked.clear();
  }

  /** @param {number} code @param {string} reason */
  #stop(code, reason) {
    removeEventListener("online", this.#retry);
    this.#drop(reason);
    this.#turn("stopped", { code, reason });
  }
}
