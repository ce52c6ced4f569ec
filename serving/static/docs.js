"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  onComplete: () => { document.title = `${document.querySelector(".title")?.firstChild?.textContent ?? ""} API`.trim(); },
});
