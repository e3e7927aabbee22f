// The page of docs/chat.md: /chat#42 is the chat 42.
import { RoomClient } from "/api/v1/rooms/client.js";

const [logIn, say] = document.forms;
const [state, said] = [document.querySelector("#state"), document.querySelector("#said")];
let token = "";

async function ask(path, options) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`/api/v1${path}`, { method: "POST", headers, ...options });
  if (answer.ok) return answer.json();
  if (answer.status === 401) return null;
  throw new Error((await answer.json()).detail);
}

function append(text) {
  const line = document.createElement("li");
  line.textContent = text; // never innerHTML: others have written it
  said.append(line);
}

function open() {
  const rooms = new RoomClient({ ticket: async () => (await ask("/rooms/tickets"))?.ticket ?? null });
  const chat = rooms.join(`chat:${location.hash.slice(1) || "lobby"}`);
  chat.on("message", ({ data, from }) => append(`${from.slice(-4)}: ${data.content}`));
  chat.on("system", ({ data }) => append(data.content));
  chat.on("gap", () => append("Something may be missing here."));
  chat.on("joined", ({ member_count }) => (state.textContent = `${member_count} here`));
  chat.on("error", ({ detail }) => (state.textContent = detail));
  rooms.on("state", ({ state: now }) => {
    say.hidden = now !== "open";
    logIn.hidden = now !== "stopped";
    if (now !== "open") state.textContent = now === "stopped" ? "Log in to chat." : "Connecting ...";
  });
  say.onsubmit = async (event) => {
    event.preventDefault();
    const content = say.elements.content.value;
    try {
      await chat.send("message", { content });
      append(`You: ${content}`);
      say.reset();
    } catch (error) {
      state.textContent = `Not sent: ${error.message}`; // it is still there, to be sent again
    }
  };
}

logIn.onsubmit = async (event) => {
  event.preventDefault();
  token = "";
  const body = new URLSearchParams(new FormData(logIn));
  const found = await ask("/auth/login", { body }).catch((error) => error);
  if (!found?.access_token) {
    return void (state.textContent = found?.message ?? "The e-mail address or the password is wrong.");
  }
  token = found.access_token;
  logIn.hidden = true;
  open();
};
