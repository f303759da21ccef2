#!/usr/bin/env bash
# Tries a server with what its OpenAPI document says, and with what it does not say, by schemathesis (PyPI): each
# answer must be one that the document has. Its program is `schemathesis` in the path, or what SCHEMATHESIS names.
# Further arguments are passed on, such as `--max-examples 500`. A live feed has no end, so it is left out here.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

cargo build --quiet --locked --package rejoin-server --bin rejoin-server
server=${CARGO_TARGET_DIR:-$root/target}/debug/rejoin-server
folder=$(mktemp -d)
trap 'kill "${pid:-}" 2> /dev/null || true; rm -rf "$folder"' EXIT

cat > "$folder/tokens.toml" << 'TOKENS'
[[tokens]]
token = 'of-schemathesis'
principal = 'schemathesis'
spaces = [{ space = '*', write = true }]
TOKENS
"$server" --listen 127.0.0.1:0 --data "$folder/data" --auth tokens --tokens "$folder/tokens.toml" \
  --principal-requests-per-second 100000 --address-requests-per-second 100000 --address-connections-per-minute 1000000 2> "$folder/log" &
pid=$!
for _ in $(seq 100); do
  address=$(sed -n 's/.*address=\([0-9.:]*\) listening$/\1/p' "$folder/log")
  [ -n "$address" ] && break
  sleep 0.1
done

# It leaves its notes where it runs.
cd "$folder"
"${SCHEMATHESIS:-schemathesis}" --config-file "$root"/server/tests/schemathesis.toml run "http://$address/v1/openapi.json" \
  --header 'Authorization: Bearer of-schemathesis' \
  --checks all --generation-database none "$@"
