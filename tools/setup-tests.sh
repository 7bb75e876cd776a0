#!/bin/sh
# Makes sure that PostgreSQL (15 or newer), Redis and nginx are here for the tests, as they look for them: in PATH,
# PostgreSQL in /usr/lib/postgresql/*/bin and nginx in /usr/sbin too. What is missing is installed with apt-get, as root or by
# "sudo -n". Ends with 1, and says what is missing, where that cannot be done. Does nothing when all is there. Caddy, which
# one test runs, is installed too where this system has it; without it, that test is skipped. Go, a C compiler, Node and npm
# are not installed: where one is missing, that is said before anything else.
set -eu

# What this script does not install: a toolchain is its owner's to choose.
tools=
for tool in go node npm "$(go env CC 2>/dev/null | cut -d' ' -f1)"; do
	[ -n "$tool" ] || tool=cc
	command -v "$tool" >/dev/null || tools="$tools $tool"
done
if [ -n "$tools" ]; then
	echo "make test needs Go, a C compiler (for the race detector), Node and npm. Missing:$tools; install it and run this again." >&2
	exit 1
fi

postgres_version() {
	for initdb in "$(command -v initdb || true)" /usr/lib/postgresql/*/bin/initdb; do
		if [ -x "$initdb" ]; then
			"$initdb" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'
			return
		fi
	done
	echo 0
}

missing() {
	[ "$(postgres_version)" -ge 15 ] || echo postgresql
	command -v redis-server >/dev/null || echo redis-server
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo nginx-light
}

# Caddy is no need: a system that does not have it goes without its one test, and is told so.
optional() {
	command -v caddy >/dev/null && return
	as_root=
	[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
	{ $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends caddy; } ||
		echo "There is no Caddy here: its test is skipped."
}

packages=$(missing | tr '\n' ' ')
if [ -z "$packages" ]; then
	optional
	echo "PostgreSQL, Redis and nginx are here."
	exit 0
fi

fail() {
	echo "The tests need PostgreSQL 15 or newer, Redis and nginx. Missing: ${packages% }; $1" >&2
	exit 1
}

command -v apt-get >/dev/null || fail "install it with this system's package manager."
if [ "$(id -u)" -eq 0 ]; then
	sudo=
elif sudo -n true 2>/dev/null; then
	sudo="sudo -n"
else
	fail "run: sudo apt-get install $packages"
fi

# No package needs its service here: every test starts a server of its own.
echo "Installing: $packages"
$sudo apt-get update -q || fail "apt-get update failed."
# shellcheck disable=SC2086 # both are lists of words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages || fail "apt-get install failed."

packages=$(missing | tr '\n' ' ')
[ -z "$packages" ] || fail "installed, and still not found."
optional
