import * as rejoin from "rejoin/inline";
import { show } from "./show.js";

show(rejoin);
