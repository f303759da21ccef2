// In place of `ws`, which RxDB's plugin for WebSockets imports and which refuses to run in browsers.

export const WebSocket = globalThis.WebSocket;
export class WebSocketServer {}
