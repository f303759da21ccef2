#!/usr/bin/env bash
# Sets up what is missing, builds, and runs the demo: the sync server, and the page in a process of its
# own, so that the server can be killed and restarted under an open page. Ctrl-C ends both.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")"
. .ci/need.sh

usage="usage: ./run_demo.sh [--port PORT] [--data DIR] [--no-open] [--server-only]
  --port PORT     the sync server listens here, the page on the next port (default 8787)
  --data DIR      the server's database (default .demo-data)
  --no-open       does not open a browser
  --server-only   starts only the server, on the same port and data: restarts one that was killed"

port=8787
data=.demo-data
open_page=yes
server_only=no
while [ $# -gt 0 ]; do
  case $1 in
    --port) [ $# -ge 2 ] || die "$usage"; port=$2; shift ;;
    --data) [ $# -ge 2 ] || die "$usage"; data=$2; shift ;;
    --no-open) open_page=no ;;
    --server-only) server_only=yes ;;
    --help | -h) say "$usage"; exit ;;
    *) die "$usage" ;;
  esac
  shift
done
case $port in '' | *[!0-9]*) die "--port takes a number, not '$port'" ;; esac
if [ "$port" -lt 1 ] || [ "$port" -gt 65534 ]; then die "--port takes a number from 1 to 65534, not $port"; fi
case $data in .demo-data | /*) ;; *) data=$called_from/$data ;; esac
page_port=$((port + 1))
server_url=http://127.0.0.1:$port/
page_url=http://127.0.0.1:$page_port/
server=${CARGO_TARGET_DIR:-target}/release/rejoin-server
start_server=("$server" --listen "127.0.0.1:$port" --data "$data" --static web-demo/dist --auth none)

build_server() {
  need_c_compiler
  cargo build --release --locked -p rejoin-server
}

build_page() {
  need_wasm_target
  need_npm_packages
  npm run build -w client-wasm
  npm run build -w web-demo
}

# answers PORT PATH: whether a GET there is answered with 200 within two seconds.
answers() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3
    read -r -t 2 status <&3
    case $status in *" 200"*) ;; *) exit 1 ;; esac
  ) 2>/dev/null
}

# wait_for NAME PID PORT PATH: until it answers, at most 30 s.
wait_for() {
  local tries=150
  until answers "$3" "$4"; do
    kill -0 "$2" 2>/dev/null || die "$1 ended before it answered; its last words are above${5:-}."
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "$1 runs (pid $2) but does not answer on port $3 after 30 s."
    sleep 0.2
  done
}

if [ "$server_only" = yes ]; then
  [ -x "$server" ] || build_server
  ! answers "$port" /healthz || die "a server answers on port $port already: stop it first, or choose another --port"
  mkdir -p "$data"
  say "sync server: $server_url  pid $$  data $data  (Ctrl-C or: kill $$)"
  exec "${start_server[@]}"
fi

server_pid=""
page_pid=""

# By pid, and every child: first asked to finish, after five seconds made to.
end_children() {
  trap - EXIT
  trap '' INT TERM # a second Ctrl-C must not leave one behind
  local pid tries=50
  for pid in $server_pid $page_pid; do kill "$pid" 2>/dev/null || true; done
  for pid in $server_pid $page_pid; do
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
      tries=$((tries - 1))
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  done
}
trap end_children EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build_server
build_page
mkdir -p "$data"

if answers "$port" /healthz; then
  say "a server answers on port $port already: the page will use that one"
else
  "${start_server[@]}" </dev/null &
  server_pid=$!
  wait_for "the sync server" "$server_pid" "$port" /healthz
fi

if answers "$page_port" /; then
  say "a page is served on port $page_port already: open $page_url"
else
  # Its own process: killing the sync server leaves the page up, as on a real site's static host.
  REJOIN_SERVER=$server_url node node_modules/vite/bin/vite.js preview web-demo \
    --host 127.0.0.1 --port "$page_port" --strictPort </dev/null >"$data/page.log" 2>&1 &
  page_pid=$!
  wait_for "the page's server" "$page_pid" "$page_port" / " (or in $data/page.log)"
fi

same="--port $port --data $(printf %q "$data")"
say "" "Rejoin demo: $page_url" "" \
  "  page          $page_url  pid ${page_pid:-of another run}  (stays up when the sync server is killed)" \
  "  sync server   $server_url  pid ${server_pid:-of another run}  (serves the same page too)" \
  "  data          $data" "" \
  "  stop the sync server alone      kill ${server_pid:-PID}" \
  "  start the sync server again     ./run_demo.sh --server-only $same" \
  "  end everything                  Ctrl-C (here, and where --server-only runs)" ""

if [ "$open_page" = yes ]; then
  if have xdg-open && [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    xdg-open "$page_url" >/dev/null 2>&1 </dev/null &
  elif have open && [ "$(uname)" = Darwin ]; then
    open "$page_url"
  else
    say "no desktop found to open a browser on: open $page_url yourself"
  fi
fi

# In pieces, so that a signal is answered at once and the server's end is told.
[ -n "$server_pid$page_pid" ] || exit 0
while [ -z "$page_pid" ] || kill -0 "$page_pid" 2>/dev/null; do
  if [ -n "$server_pid" ] && ! kill -0 "$server_pid" 2>/dev/null; then
    say "the sync server (pid $server_pid) has ended; start it again: ./run_demo.sh --server-only $same"
    server_pid=""
    [ -n "$page_pid" ] || exit 0
  fi
  sleep 1 &
  wait $! || true
done
die "the page's server (pid $page_pid) has ended: see $data/page.log"
