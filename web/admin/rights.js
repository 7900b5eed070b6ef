// What the session may do: the server refuses the rest, so the page says so before anything is pressed.

let scopes = [];

/** Takes the scopes of a session; none without one. */
export function useScopes(list) {
  scopes = list;
}

/** Whether the session has a scope; `admin` includes all. */
export const may = (scope) => scopes.includes("admin") || scopes.includes(scope);

/** Why something may not be done, such as `ship orders`, if so. */
export const refused = (scope, what) => (may(scope) ? null : `your session may not ${what}: it lacks the scope ${scope}.`);

/** The same as a sentence of its own. */
export function refusal(scope, what) {
  const why = refused(scope, what);
  return why && why.charAt(0).toUpperCase() + why.slice(1);
}
