// Where the browser comes back to from /oauth/authorize: tells the page that asked, and goes away.
const channel = new BroadcastChannel("crm-authorization");
channel.onmessage = () => window.close();
channel.postMessage(location.search);
