# linkspan: everything that is done with this repository.

DESTDIR ?=
CNI_BIN ?= /opt/cni/bin
PREFIX ?= /usr/local
SHARE = $(DESTDIR)$(PREFIX)/share

.PHONY: all build demo test check bench install clean

all: build

build: ## release binary, static, linked at target/linkspan
	@scripts/build

demo: ## a scratch host with two containers, shown step by step
	@scripts/demo

test: ## unit, property, fault, kernel and runtime tests
	@scripts/test

check: ## format, lints, licences, documentation, shell scripts
	@scripts/check

bench: ## side by side with the reference plugins and with the kernel's floor
	@scripts/bench $(BENCH)

install: build ## into $(DESTDIR)$(CNI_BIN), by rename, so that a running plugin is never overwritten; a link for shells, man pages, completions
	@install -d "$(DESTDIR)$(CNI_BIN)"
	@install -m 0755 target/linkspan "$(DESTDIR)$(CNI_BIN)/.linkspan.new"
	@mv -f "$(DESTDIR)$(CNI_BIN)/.linkspan.new" "$(DESTDIR)$(CNI_BIN)/linkspan"
	@echo "installed $(DESTDIR)$(CNI_BIN)/linkspan"
	@install -d "$(DESTDIR)$(PREFIX)/bin"
	@if [ ! "$(DESTDIR)$(PREFIX)/bin" -ef "$(DESTDIR)$(CNI_BIN)" ]; then \
		ln -sfn "$(CNI_BIN)/linkspan" "$(DESTDIR)$(PREFIX)/bin/linkspan" && \
		echo "installed $(DESTDIR)$(PREFIX)/bin/linkspan, a link to it"; fi
	@target/linkspan man "$(SHARE)/man/man1" >/dev/null
	@install -d "$(SHARE)/bash-completion/completions" "$(SHARE)/zsh/site-functions" "$(SHARE)/fish/vendor_completions.d"
	@target/linkspan completions bash >"$(SHARE)/bash-completion/completions/linkspan"
	@target/linkspan completions zsh >"$(SHARE)/zsh/site-functions/_linkspan"
	@target/linkspan completions fish >"$(SHARE)/fish/vendor_completions.d/linkspan.fish"
	@echo "installed man pages and completions below $(SHARE)"

clean:
	@cargo clean --quiet
