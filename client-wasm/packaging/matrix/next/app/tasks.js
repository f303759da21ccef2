"use client";

import * as rejoin from "rejoin";
import { useEffect } from "react";
import { show } from "./show.js";

export function Tasks() {
  useEffect(() => {
    show(rejoin);
  }, []);
  return <ul />;
}
