// A part of the reference, to read.
Redoc.init("/openapi.json?tag=" + location.pathname.split("/")[2], {}, document.getElementById("page"));
