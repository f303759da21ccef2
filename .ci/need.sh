# Sourced by run_tests.sh and run_demo.sh: what the project needs from a machine. Each `need_…` returns
# when the thing is there, installs it when it can, or ends the script saying exactly what to do.
# It writes inside the checkout and the tools' own caches; as root on Debian also through apt-get.
# shellcheck shell=bash

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
export RUST_BACKTRACE="${RUST_BACKTRACE:-1}"
export npm_config_fund=false npm_config_audit=false npm_config_update_notifier=false

# One line for each argument.
say() { printf '%s\n' "$@"; }

die() {
  printf '\n%s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE…: false when this is not Debian or its kin, or we are not root.
apt_install() {
  have apt-get && [ "$(id -u)" = 0 ] || return 1
  say "installing $* with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update </dev/null && apt-get -qq -y install --no-install-recommends "$@" </dev/null
}

need_cargo() {
  have cargo && return
  [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  have cargo || apt_install rustup || true
  have cargo || die "Rust is missing. Install rustup (https://rustup.rs, or your system's package
'rustup') and run this again: it reads the version from rust-toolchain.toml by itself."
}

need_c_compiler() {
  need_cargo
  have cc || apt_install build-essential || true
  have cc || die "A C compiler is missing (SQLite is built from source). Install one:
  Debian, Ubuntu: apt-get install build-essential     macOS: xcode-select --install"
}

need_wasm_target() {
  need_cargo
  local target=wasm32-unknown-unknown
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] && return
  ! have rustup || rustup target add "$target" </dev/null || true
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] ||
    die "The Rust target $target is missing and could not be added. With a network, run
  rustup target add $target
in this folder (the toolchain is pinned by rust-toolchain.toml). A Rust that was not installed by
rustup needs its own package of the target, for example libstd-rust-dev-wasm32 on Debian."
}

# need_fault_tool PACKAGE TEST…: what Debian has in a package and the test finds. Elsewhere, and for who may not
# install it, it is named: `cargo rel quick` tells what it does not measure then.
need_fault_tool() {
  local package=$1
  shift
  ! "$@" || return 0
  if have apt-get && [ "$(id -u)" = 0 ]; then
    apt_install "$package" && "$@" || die "$package cannot be installed; cargo rel quick needs it"
  else
    say "$package is missing, and what needs it will not be measured (Debian: apt-get install $package)"
  fi
}

have_tool() { PATH="$PATH:/usr/sbin:/sbin" have "$1"; }

have_faketime() {
  local library
  for library in /usr/lib*/faketime/libfaketimeMT.so.1 /usr/lib/*/faketime/libfaketimeMT.so.1; do
    [ ! -f "$library" ] || return 0
  done
  return 1
}

# What faults are made with; they are of Linux.
need_fault_tools() {
  [ "$(uname -s)" = Linux ] || return 0
  need_fault_tool strace have_tool strace
  need_fault_tool iproute2 have_tool ip
  need_fault_tool nftables have_tool nft
  need_fault_tool mount have_tool mount
  need_fault_tool sqlite3 have_tool sqlite3
  need_fault_tool faketime have_faketime
}

node_is_new_enough() {
  have node && have npm && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major >= 23 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1);'
}

need_node() {
  node_is_new_enough || apt_install nodejs npm || true
  node_is_new_enough || die "Node.js 20.19 or 22.12 or later with npm is needed, found: $(node --version 2>&1 || true).
Install it from https://nodejs.org or your system's packages and run this again."
}

# The packages of package-lock.json, fetched again only after the lock file changed.
need_npm_packages() {
  need_node
  local installed=node_modules/.installed-lock.json
  cmp -s package-lock.json "$installed" && return
  npm ci </dev/null
  cp package-lock.json "$installed"
}

# Prints the path of a Chromium, or fails.
find_browser() {
  local candidate
  for candidate in chromium chromium-browser google-chrome google-chrome-stable; do
    have "$candidate" && command -v "$candidate" && return
  done
  # Where Playwright keeps what `npx playwright install chromium` fetched, and where macOS has Chrome.
  for candidate in \
    "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}"/chromium-*/chrome-linux*/chrome \
    "$HOME"/Library/Caches/ms-playwright/chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
    "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
    [ -x "$candidate" ] && say "$candidate" && return
  done
  return 1
}

# Exports REJOIN_BROWSER, unless it names one already.
need_browser() {
  local found=${REJOIN_BROWSER:-}
  if [ -n "$found" ]; then
    [ -x "$found" ] || die "REJOIN_BROWSER is set to $found, which cannot be executed."
  elif ! found=$(find_browser); then
    apt_install chromium || true
    found=$(find_browser) || die "A Chromium is needed for the browser tests. One of these helps:
  Debian:  apt-get install chromium          (as root this script does it itself)
  any:     npx playwright install chromium
  or set REJOIN_BROWSER to the path of a Chromium or Chrome."
  fi
  export REJOIN_BROWSER="$found"
  say "browser: $REJOIN_BROWSER"
}
