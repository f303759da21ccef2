#!/usr/bin/env python3
"""Turns the stanzas of `apt-cache dumpavail` into lines of JSON, one per package.

    apt-cache dumpavail | python3 docs/examples/dumpavail-to-jsonl.py > packages.jsonl

A field is `Name: text`; lines that begin with white space continue it, a lone dot stands for an empty
line. Of several versions of one package the last counts. Sizes become integers.
"""

import json
import sys

INTEGERS = {"Installed-Size", "Size"}


def stanzas(lines):
    """Yields one dictionary per stanza."""
    fields, name = {}, None
    for line in lines:
        line = line.rstrip("\r\n")
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, None
        elif line[0] in " \t":
            if name is not None:
                text = line[1:]
                fields[name] += "\n" + ("" if text.strip() == "." else text)
        else:
            name, colon, text = line.partition(":")
            if not colon:
                sys.exit(f"not a field: {line!r}")
            fields[name] = text.strip()
    if fields:
        yield fields


def main():
    packages = {}
    with open(sys.stdin.fileno(), encoding="utf-8", errors="replace", newline="\n") as lines:
        for fields in stanzas(lines):
            if "Package" not in fields:
                sys.exit(f"a stanza without a package: {fields!r}")
            for name in INTEGERS & fields.keys():
                if fields[name].isdecimal():
                    fields[name] = int(fields[name])
            # Behind those that came before: the order is that of the last versions.
            packages.pop(fields["Package"], None)
            packages[fields["Package"]] = fields
    with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n") as out:
        for fields in packages.values():
            out.write(json.dumps(fields, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
