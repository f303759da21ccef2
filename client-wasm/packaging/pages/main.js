import * as rejoin from "rejoin";
import { show } from "./show.js";

show(rejoin);
