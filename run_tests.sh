#!/usr/bin/env bash
# Passes every test of the project, on a fresh machine too: what is missing is installed, or named.
set -euo pipefail
cd "$(dirname "$0")"
. .ci/need.sh
# What a clean clone builds once gains nothing from incremental compilation.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0

usage="usage: ./run_tests.sh [--quick] [--only STEP]… [--list]
  --quick       without what needs a browser
  --only STEP   this step alone (may be repeated)
  --list        names the steps"

# What the steps test. A part that is absent fails the run, unless it is listed as pending; a pending
# part that has appeared fails the run as well, until its line moves out of PENDING.
PARTS="crate:rejoin-core crate:rejoin-sqlite crate:rejoin-server crate:rejoin-client
  crate:rejoin-wasm crate:rejoin-packager crate:rejoin-rel
  script:client-wasm:build script:client-wasm:test script:client-wasm:test:golden
  script:client-wasm:size script:client-wasm:test:packaging script:create-rejoin:test
  script:client-wasm:test:browser script:web-demo:build script:web-demo:test:browser"
PENDING=""

STEPS="parts fmt clippy clippy-wasm doc test doctest package demo types prettier golden node size packaging create browser rel"

heading() {
  case $1 in
    parts) say "every part of the workspace is there" ;;
    fmt) say "cargo fmt --check" ;;
    clippy) say "clippy on this machine's target, warnings denied" ;;
    clippy-wasm) say "clippy on wasm32, warnings denied" ;;
    doc) say "documentation builds, warnings denied" ;;
    test) say "unit, property, contract, simulation and integration tests" ;;
    doctest) say "examples in the documentation" ;;
    package) say "npm package: wasm, bindings, wasm-opt, TypeScript" ;;
    demo) say "production build of the demo with the npm package" ;;
    types) say "TypeScript checks" ;;
    prettier) say "prettier --check" ;;
    golden) say "golden vectors on wasm32" ;;
    node) say "npm package under Node.js" ;;
    size) say "npm package: what an app pays, within its budget" ;;
    packaging) say "npm package outside the workspace: types, Vite, plain files, Chromium, Node.js" ;;
    create) say "npm create rejoin: each template built, opened, written to" ;;
    browser) say "npm package and demo in Chromium" ;;
    rel) say "some of every suite of faults: cargo rel quick" ;;
    *) die "no step is called '$1'; there are: $STEPS" ;;
  esac
}

# A step returns 0 when it passed and 77 when all that it would test is pending.
pending_only=77

is_pending() {
  local part
  for part in $PENDING; do [ "$part" != "$1" ] || return 0; done
  return 1
}

has_part() {
  local kind=${1%%:*} rest=${1#*:}
  case $kind in
    crate) cargo metadata --quiet --no-deps --format-version 1 | grep -q "\"name\":\"$rest\",\"version\"" ;;
    script) WORKSPACE=${rest%%:*} SCRIPT=${rest#*:} node -e '
      const { WORKSPACE, SCRIPT } = process.env;
      const manifest = JSON.parse(require("fs").readFileSync(`${WORKSPACE}/package.json`, "utf8"));
      process.exit(manifest.scripts?.[SCRIPT] ? 0 : 1);' ;;
  esac
}

# npm_scripts WORKSPACE:SCRIPT…: runs each that is not pending.
npm_scripts() {
  local script ran=no
  for script in "$@"; do
    if is_pending "script:$script"; then
      say "pending: npm run ${script#*:} -w ${script%%:*}"
    else
      # Whatever it exits with, it failed: 77 has a meaning here only.
      npm run "${script#*:}" -w "${script%%:*}" || exit 1
      ran=yes
    fi
  done
  [ "$ran" = yes ] || exit "$pending_only"
}

step_parts() {
  need_cargo
  need_node
  local part wrong=0
  for part in $PARTS; do
    if has_part "$part"; then
      ! is_pending "$part" || { say "$part is there now: take it out of PENDING in run_tests.sh"; wrong=1; }
    elif is_pending "$part"; then
      say "pending: $part"
    else
      say "missing: $part"
      wrong=1
    fi
  done
  return "$wrong"
}

step_fmt() {
  need_cargo
  cargo fmt --all --check
}

step_clippy() {
  need_c_compiler
  cargo clippy --locked --workspace --all-targets -- -D warnings
}

step_clippy_wasm() {
  need_wasm_target
  local clippy="cargo clippy --locked --target wasm32-unknown-unknown --lib"
  # One by one: together they would share the features of the most demanding.
  $clippy -p rejoin-core -- -D warnings
  $clippy -p rejoin-core --features test-util -- -D warnings
  $clippy -p rejoin-wasm -- -D warnings
}

step_doc() {
  need_c_compiler
  RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features
}

step_test() {
  need_c_compiler
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace
  else
    cargo test --locked --workspace --lib --bins --tests
  fi
}

step_doctest() {
  need_c_compiler
  cargo test --locked --workspace --doc
}

step_package() {
  need_wasm_target
  need_c_compiler
  need_npm_packages
  npm run build -w client-wasm
}

step_demo() {
  need_built_package
  npm run build -w web-demo
}

step_types() {
  need_built_package
  npm run typecheck --workspaces --if-present
}

step_prettier() {
  need_npm_packages
  npm run format:check
}

step_golden() {
  need_built_package
  npm_scripts client-wasm:test:golden
}

step_node() {
  need_built_package
  npm_scripts client-wasm:test
}

step_size() {
  need_built_package
  npm_scripts client-wasm:size
}

step_packaging() {
  need_built_package
  need_browser
  npm_scripts client-wasm:test:packaging
}

step_create() {
  need_built_package
  need_browser
  npm_scripts create-rejoin:test
}

step_browser() {
  need_built_package
  need_browser
  need_c_compiler
  is_pending crate:rejoin-server || cargo build --locked -p rejoin-server
  npm_scripts client-wasm:test:browser web-demo:test:browser
}

step_rel() {
  need_c_compiler
  need_wasm_target
  need_fault_tools
  if [ "$quick" = yes ]; then
    need_npm_packages
    cargo rel quick --without browser
  else
    need_built_package
    need_browser
    cargo rel quick
  fi
}

# A whole run has built the package in its own step; with --only it may be absent or old.
need_built_package() {
  need_npm_packages
  [ -z "$chosen" ] || step_package
}

run_step() {
  local step=$1 title started=$SECONDS status=0
  title=$(heading "$step")
  say "" "==> $step: $title"
  # A subshell of its own outside any condition, or `set -e` would not hold inside it.
  set +e
  (set -euo pipefail; "step_${step//-/_}") </dev/null
  status=$?
  set -e
  local took=$((SECONDS - started))
  case $status in
    0) passed=$((passed + 1)); say "<== $step passed (${took} s)" ;;
    "$pending_only") skipped=$((skipped + 1)); say "<== $step PENDING: nothing to run yet" ;;
    *) die "FAILED in step '$step' ($title) after ${took} s. This step alone: ./run_tests.sh --only $step" ;;
  esac
}

chosen=""
quick=no
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=yes ;;
    --only) [ $# -ge 2 ] || die "$usage"; heading "$2" >/dev/null; chosen="$chosen $2"; shift ;;
    --list) for step in $STEPS; do printf '%-12s %s\n' "$step" "$(heading "$step")"; done; exit ;;
    --help | -h) say "$usage"; exit ;;
    *) die "$usage" ;;
  esac
  shift
done

passed=0
skipped=0
for step in ${chosen:-$STEPS}; do
  case $quick:$step in
    yes:packaging | yes:create | yes:browser)
      say "" "==> $step: left out (--quick)"
      skipped=$((skipped + 1))
      ;;
    *) run_step "$step" ;;
  esac
done

say "" "$SECONDS s in all; steps:"
if [ "$skipped" -gt 0 ]; then
  say "$passed passed, 0 failed, $skipped skipped"
else
  say "$passed passed, 0 failed"
fi
