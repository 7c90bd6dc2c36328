// The reference, to call: Swagger UI over this server's document, or over the part of it that ?tag= names.
const page = document.getElementById("page");
const { client, issuer } = page.dataset;
const tag = new URLSearchParams(location.search).get("tag");

const ui = SwaggerUIBundle({
  url: "/openapi.json" + (tag ? "?tag=" + encodeURIComponent(tag) : ""),
  dom_id: "#page",
  deepLinking: true,
  docExpansion: tag ? "list" : "none", // all operations at once take a browser half a minute
  validatorUrl: null,
  oauth2RedirectUrl: location.origin + "/docs/try/return",
});

if (client) {
  ui.initOAuth({ clientId: client, usePkceWithAuthorizationCodeGrant: true });
  if (location.origin !== issuer) {
    document.getElementById("elsewhere").hidden = false;
  }
}

// The window that signs in may have lost its opener on the way: it tells all pages of this origin what came back, and
// the one that asked, which alone knows the state, goes on.
const channel = new BroadcastChannel("crm-authorization");
channel.onmessage = ({ data }) => {
  const asked = window.swaggerUIRedirectOauth2;
  const told = new URLSearchParams(data);
  if (!asked || !asked.state || told.get("state") !== asked.state) {
    return;
  }
  channel.postMessage("received");
  delete asked.state; // once
  if (told.get("code") && told.get("iss") === issuer) {
    asked.auth.code = told.get("code");
    asked.callback({ auth: asked.auth, redirectUrl: asked.redirectUrl });
  } else {
    const message = told.get("error_description") || told.get("error") || "Another server answered.";
    asked.errCb({ authId: asked.auth.name, source: "auth", level: "error", message });
  }
};
