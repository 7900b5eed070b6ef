// Signs in with the link in the address, once, and shows who is signed in.

const who = document.getElementById("who");

async function session() {
  const link = new URLSearchParams(location.hash.slice(1)).get("sign-in");
  if (link) {
    history.replaceState(null, "", location.pathname);
    return fetch("/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ link }),
    });
  }
  return fetch("/v1/session");
}

const answer = await session();
const body = await answer.json();
who.textContent = answer.ok
  ? `signed in: ${body.name} (${body.scopes.join(" ")})`
  : `not signed in: ${body.detail}`;
