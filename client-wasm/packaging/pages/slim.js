// The bundler is told that the WebAssembly is a file, and gives its address.
import * as rejoin from "rejoin/slim";
import wasm from "rejoin/rejoin_bg.wasm";
import { show } from "./show.js";

show(rejoin, { wasm });
