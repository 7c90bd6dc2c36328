// OWASP's rules for APIs (2023), asked of openapi/openapi.json by Spectral. Every rule that is off says why.
import owasp from "@stoplight/spectral-owasp-ruleset";

const off = {
  // Cross-origin requests are the operator's to allow (CRM_CORS_ORIGINS); without that no reply has the header.
  "owasp:api8:2023-define-cors-origin": "off",
  // The document is served by the installation itself: its one server is "/", whatever environment that is.
  "owasp:api9:2023-inventory-access": "off",
  "owasp:api9:2023-inventory-environment": "off",
  // Names, notes and texts may hold any character; each has a greatest length (string-limit, which is on).
  "owasp:api4:2023-string-restricted": "off",
};

const place = (path) => `**#/paths/${encodeURIComponent(path).replaceAll("%2F", "~1")}`;
// The token of a signed link is bound to one principal and file, and lives five minutes: a link has no headers.
const links = ["/v1/exports/{id}/content", "/v1/files/{id}/content", "/v1/person_exports/{id}/content"].map(place);
// Probes and what OAuth clients must know before they have a credential: no credential and no input.
const open = [
  "/healthz",
  "/readyz",
  "/.well-known/jwks.json",
  "/.well-known/oauth-authorization-server",
  "/.well-known/oauth-protected-resource",
  "/.well-known/openid-configuration",
].map(place);
// A client of OAuth says who it is in the form or by HTTP Basic (RFC 6749, 2.3), which is no scheme of the API.
const clients = ["device", "introspect", "revoke", "token"].map((name) => place(`/oauth/${name}`));

// References are not followed but where a rule needs it: followed, they make the document a hundred times as long.
const followed = ["define-error-responses-401", "define-error-responses-500", "rate-limit"];
const responses = "$.paths[*][get,put,post,patch,delete].responses";
const rules = {};
for (const [name, rule] of Object.entries(owasp.rules)) {
  const resolved = followed.some((end) => name.includes(end));
  rules[name] = { ...rule, resolved };
  if (resolved) rules[name].given = rule.given.replace(/^\$(\.paths)?(\[\*\])?\.\.responses/, responses);
}

export default {
  extends: [[{ ...owasp, rules }, "all"]],
  rules: off,
  overrides: [
    { files: links, rules: { "owasp:api2:2023-no-credentials-in-url": "off" } },
    { files: clients, rules: { "owasp:api2:2023-write-restricted": "off" } },
    {
      files: open,
      rules: {
        "owasp:api2:2023-read-restricted": "off",
        "owasp:api4:2023-rate-limit-responses-429": "off",
        "owasp:api8:2023-define-error-validation": "off",
        "owasp:api8:2023-define-error-responses-401": "off",
        "owasp:api8:2023-define-error-responses-500": "off",
      },
    },
  ],
};
