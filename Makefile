# Penstock. `make help` lists the targets.
#
#   make                               build everything under build/
#   make check                         lint and unit tests
#   make test                          install what is missing, then every suite; ends with "N passed, N failed"
#   make check SAN=address,undefined   the same with sanitizers, in a folder of its own
#   make FAILPOINTS=1                  the same with places that tests can make fail, in a folder of its own
#   make SCHEMA=2                      as a version that writes records of another schema, likewise: for tests
#   make BUILD=/tmp/x                  build somewhere else
#   make V=1                           show full command lines
#   make WERROR=1                      warnings are errors (continuous integration)
#   make unit UNIT=common/job          the unit tests of one folder

VERSION := 0.1.0
BUILD   ?= build
CFLAGS  ?= -O2 -g
CC      ?= cc
comma   := ,
OUT     := $(BUILD)$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))$(if $(FAILPOINTS),/failpoints)$(if $(SCHEMA),/schema-$(SCHEMA))

# --- flags -------------------------------------------------------------------------------------

pkg-first = $(firstword $(foreach name,$(1),$(shell pkg-config --exists $(name) 2>/dev/null && echo $(name))))
PKGS := libuv hiredis $(call pkg-first,hiredis_ssl) libcurl json-c libcyaml yaml-0.1 libmicrohttpd openssl \
        $(or $(call pkg-first,msgpack-c msgpack),msgpack)

# Keep a flag only when this compiler knows it.
has  = $(shell $(CC) -Werror $(1) -x c -c /dev/null -o /dev/null 2>/dev/null && echo $(1))
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wwrite-strings -Wundef -Wvla -Wcast-qual -Wformat=2 -Wswitch-enum -Wimplicit-fallthrough \
        -Wnull-dereference $(call has,-Wlogical-op) $(call has,-Wduplicated-cond)
# Sanitizers confuse the flow analysis behind some warnings, so only plain builds turn them into errors.
WARN += $(if $(WERROR),$(if $(SAN),,-Werror))
HARD := -fPIE -fno-common -fstack-protector-strong $(call has,-fstack-clash-protection) \
        $(call has,-fcf-protection=full) $(call has,-fstrict-flex-arrays=3) \
        $(call has,-ftrivial-auto-var-init=zero) \
        $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer,\
                    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
DEPS   := $(shell pkg-config --cflags $(PKGS) 2>/dev/null) \
          $(if $(call pkg-first,hiredis_ssl),-DHAVE_HIREDIS_SSL=1)
LDLIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm
override CFLAGS  += -std=c11 -D_GNU_SOURCE -DPENSTOCK_VERSION='"$(VERSION)"' -I. \
                   $(if $(FAILPOINTS),-DPENSTOCK_FAILPOINTS=1) \
                   $(if $(SCHEMA),-DPENSTOCK_SCHEMA=$(SCHEMA)) $(WARN) $(HARD) $(DEPS)
override LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(if $(SAN),-fsanitize=$(SAN))

# --- what there is -----------------------------------------------------------------------------

# Every folder of docs/layers.txt is one archive; its row says what it may be linked with. Files with a main stay out
# of the archives: unit tests link with them and bring their own.
FOLDERS := $(shell awk '/^[a-z]/ {print $$1}' docs/layers.txt)
below    = $(shell awk '$$1 == "$(1)" {for (i = NF; i > 1; i--) print $$i}' docs/layers.txt)
archives = $(patsubst %,$(OUT)/%.a,$(1) $(call below,$(1)))
sources  = $(filter-out %/main.c %/child_main.c,$(wildcard $(1)/*.c))
# All archives, users before what they use.
EVERYTHING := $(patsubst %,$(OUT)/%.a,$(shell awk '/^[a-z]/ {row[++n] = $$1} END {while (n) print row[n--]}' docs/layers.txt))
objects  = $(patsubst %.c,$(OUT)/%.o,$(call sources,$(1))) $(embedded-$(subst /,-,$(1)))

BINARIES := $(addprefix $(OUT)/bin/,penstock-broker penstock-broker-child penstock-worker penstock-worker-child \
            penstock penstock-sim)
TESTS    := $(sort $(patsubst %.c,$(OUT)/%,$(shell find tests/unit/$(UNIT) -name 'test_*.c' 2>/dev/null)))
MAINS    := $(patsubst %.c,$(OUT)/%.o,$(wildcard */main.c */child_main.c */*/main.c))
SIM      := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/sim/*.c))

# Lua functions, in a fixed order: the prelude, the verbs, the registration.
LUA_DIR := common/queue/functions
LUA     := $(wildcard $(LUA_DIR)/_prelude.lua) \
           $(sort $(filter-out $(LUA_DIR)/_%,$(wildcard $(LUA_DIR)/*.lua))) \
           $(wildcard $(LUA_DIR)/_register.lua)
embedded-common-queue := $(if $(strip $(LUA)),$(OUT)/gen/queue_functions_embedded.o)

# Console assets: broker/console/assets/app.js becomes console_asset_app_js and console_asset_app_js_size.
ASSETS  := $(sort $(wildcard broker/console/assets/*))
embedded-broker-console := $(patsubst broker/console/assets/%,$(OUT)/gen/console/%.o,$(ASSETS))

Q := $(if $(V),,@)
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: all archives FORCE
all: $(BINARIES) archives

# --- building ----------------------------------------------------------------------------------

archives: $(foreach name,$(FOLDERS),$(if $(call sources,$(name)),$(OUT)/$(name).a))

$(OUT)/bin/penstock-broker: $(OUT)/broker/main.o $(call archives,broker)
$(OUT)/bin/penstock-worker: $(OUT)/worker/main.o $(call archives,worker)
$(OUT)/bin/penstock-broker-child: $(OUT)/broker/child_main.o $(call archives,broker)
$(OUT)/bin/penstock-worker-child: $(OUT)/worker/child_main.o $(call archives,worker)
$(OUT)/bin/penstock: $(OUT)/broker/cli/main.o $(call archives,broker/cli)
$(OUT)/bin/penstock-sim: LDLIBS := $(shell pkg-config --libs json-c openssl 2>/dev/null) -lm
$(OUT)/bin/penstock-sim: $(SIM)

# A unit test links with the archives of its own row only, so a call upwards does not link. Files beside
# the tests that are not tests themselves, and those of tests/unit/support, are helpers of every test.
helpers = $(patsubst %.c,$(OUT)/%.o,$(filter-out tests/unit/$(1)/test_%,$(wildcard tests/unit/$(1)/*.c)) \
          $(wildcard tests/unit/support/*.c))
define folder
$(OUT)/$(1).a: $(call objects,$(1))
$(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/$(1)/test_*.c)): %: %.o $(call helpers,$(1)) $(call archives,$(1))
	@mkdir -p $$(@D) && echo "  LINK  $$@"
	$$Q$$(CC) $$(LDFLAGS) -o $$@ $$^ $$(LDLIBS) -lcmocka
endef
$(foreach name,$(FOLDERS),$(eval $(call folder,$(name))))

$(OUT)/bin/%:
	@mkdir -p $(@D) && echo "  LINK  $@"
	$Q$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(OUT)/%.a:
	@mkdir -p $(@D) && echo "  AR    $@"
	$Qrm -f $@ && $(AR) rcs $@ $^
$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D) && echo "  CC    $<"
	$Q$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(OUT)/gen/%.o: $(OUT)/gen/%.c $(OUT)/flags
	$Q$(CC) $(CFLAGS) -c -o $@ $<

$(OUT)/gen/queue_functions_embedded.c: common/queue/embed.sh $(LUA) $(wildcard $(LUA_DIR))
	@mkdir -p $(@D) && echo "  EMBED $@"
	$Qcommon/queue/embed.sh queue_functions_source $(LUA) > $@
$(OUT)/gen/console/%.c: broker/console/assets/% common/queue/embed.sh
	@mkdir -p $(@D) && echo "  EMBED $@"
	$Qcommon/queue/embed.sh console_asset_$(shell echo '$*' | tr -c 'a-zA-Z0-9\n' '_') $< > $@

# Other flags, other objects: this file changes only when the compiler or its flags do.
$(OUT)/flags: FORCE
	@mkdir -p $(@D); echo '$(subst ','\'',$(CC) $(CFLAGS) $(LDFLAGS))' > $@.new; \
	 if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
FORCE:

# --- checks ------------------------------------------------------------------------------------

RESULTS := $(OUT)/results
VENV    := $(BUILD)/venv
NODE    := tests/e2e/node/node_modules
export CC

# What the suites of Python find their subject by.
SUITE_ENV = PENSTOCK_BIN_DIR='$(abspath $(OUT)/bin)' PENSTOCK_SANITIZED='$(SAN)' \
            PENSTOCK_NODE_DIR='$(abspath $(NODE))' PENSTOCK_RESULTS_DIR='$(abspath $(RESULTS))'
export UBSAN_OPTIONS = print_stacktrace=1

.PHONY: lint unit unit-programs check test e2e simtest faults-smoke faults sanitize fuzz tests-deps
check: lint unit

lint: archives $(MAINS)
	$QOUT='$(OUT)' LINT_CFLAGS='$(subst ','\'',$(CFLAGS))' tests/lint/run.sh $(RESULTS)/lint

unit-programs: $(TESTS)
unit: unit-programs
	$Qtests/unit/run.sh $(RESULTS)/unit $(TESTS)

$(VENV)/.installed: tests/requirements.txt
	@echo "  VENV  $(VENV)"
	$Qtests/make-venv.sh $(VENV) $<
	@touch $@
$(NODE)/.installed: tests/e2e/node/package.json
	@echo "  NPM   $(@D)"
	$Qinstall_modules() { npm install --prefix $(<D) --no-audit --no-fund --no-package-lock --loglevel=error; }; \
	  install_modules || install_modules
	$Q$(@D)/.bin/node --version >/dev/null
	@touch $@
tests-deps: $(VENV)/.installed $(NODE)/.installed

# This tree as the two versions after it would be: they write records of schemas of their own.
schemas:
	$Q$(MAKE) SCHEMA=2 all
	$Q$(MAKE) SCHEMA=3 all
.PHONY: schemas
faults: schemas

e2e: all tests-deps
	$Q$(SUITE_ENV) tests/pytest.sh $(VENV) $(RESULTS)/e2e 900 tests/e2e
simtest: $(OUT)/bin/penstock-sim $(VENV)/.installed
	$Q$(SUITE_ENV) tests/pytest.sh $(VENV) $(RESULTS)/sim 300 tests/sim
# What makes disks slow and clocks wrong, by preload; never with sanitizers, whose runtime wants to be first.
SHIM  := $(BUILD)/tests/faults/shim.so
SHIMS := $(SHIM) $(BUILD)/tests/faults/alloc.so
$(SHIMS): $(BUILD)/tests/faults/%.so: tests/faults/shims/%.c
	@mkdir -p $(@D) && echo "  SHIM  $@"
	$Q$(CC) -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -shared -fPIC -o $@ $< -ldl
# Rows with failpoints run programs of their own; a run with sanitizers has none of either.
FAULT_ENV = $(SUITE_ENV) PENSTOCK_SHIM='$(abspath $(SHIM))' PENSTOCK_ALLOC_SHIM='$(abspath $(lastword $(SHIMS)))' \
            PENSTOCK_FAILPOINT_BIN_DIR='$(abspath $(BUILD))/failpoints/bin'
failpoint-programs:
	$Q$(MAKE) FAILPOINTS=1 SAN= $(addprefix $(BUILD)/failpoints/bin/penstock-,broker broker-child worker worker-child)
.PHONY: failpoint-programs
faults-smoke: all tests-deps $(SHIMS) failpoint-programs
	$Q$(FAULT_ENV) PENSTOCK_FAULTS=smoke tests/pytest.sh $(VENV) $(RESULTS)/faults 600 tests/faults
faults: all tests-deps $(SHIMS) failpoint-programs
	$Q$(FAULT_ENV) PENSTOCK_FAULTS=full tests/pytest.sh $(VENV) $(RESULTS)/faults 3600 tests/faults
# MINUTES at half load with a fault each: docs/soak.md. RATE=jobs/s, SEED=n: as told.
MINUTES ?= 60
soak:
	$Qdeploy/install-deps.sh --soak
	$Q$(MAKE) BUILD='$(BUILD)' all $(VENV)/.installed
	$Q$(SUITE_ENV) PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python tests/faults/soak.py --minutes '$(MINUTES)' \
	  --results '$(abspath $(RESULTS))' --rate '$(or $(RATE),0)' --seed '$(filter-out 0,$(SEED))' --sabotage '$(SABOTAGE)'
.PHONY: soak
sanitize:
	$Q$(MAKE) SAN=address,undefined unit fuzz-replay simtest e2e

test:
	$Qdeploy/install-deps.sh --test
	$Q$(MAKE) BUILD='$(BUILD)' test-run
test-run:
	$QMAKE='$(MAKE)' BUILD='$(BUILD)' tests/run.sh
.PHONY: test-run

# One libFuzzer program per parser, FUZZ_SECONDS each; new inputs join tests/fuzz/corpus/<target>.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := $(sort $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))
fuzz:
	$Qdeploy/install-deps.sh --dev
	$Q$(MAKE) BUILD='$(BUILD)/fuzz' CC=clang SAN=address,undefined,fuzzer-no-link fuzz-run
fuzz-run: $(addprefix $(OUT)/tests/fuzz/,$(FUZZ_TARGETS))
	$Qset -e; for target in $(FUZZ_TARGETS); do echo "  FUZZ  $$target"; \
	  mkdir -p tests/fuzz/corpus/$${target#fuzz_}; \
	  $(OUT)/tests/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	    -print_final_stats=1 -artifact_prefix=$(OUT)/tests/fuzz/$$target- tests/fuzz/corpus/$${target#fuzz_}; done
# What is known already, without a fuzzer: part of `make test`, with sanitizers.
REPLAYS := $(patsubst fuzz_%,$(OUT)/tests/fuzz/replay_%,$(FUZZ_TARGETS))
fuzz-replay: $(REPLAYS)
	$Qtests/fuzz/replay.sh $(RESULTS)/fuzz $(REPLAYS)
# The broker that fuzz_http_api asks.
$(OUT)/tests/fuzz/fuzz_http_api $(OUT)/tests/fuzz/replay_http_api: $(OUT)/tests/fuzz/http_api_world.o
$(OUT)/tests/fuzz/replay_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/tests/fuzz/replay.o $(EVERYTHING)
	@echo "  LINK  $@"
	$Q$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS)
$(OUT)/tests/fuzz/%: $(OUT)/tests/fuzz/%.o $(EVERYTHING)
	@echo "  LINK  $@"
	$Q$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS)
.PHONY: fuzz-run fuzz-replay

# Random histories of the Lua functions against a reference model: make model HISTORIES=1000000 SEED=1
HISTORIES ?= 10000
SEED      ?= 0
MODEL      = $(OUT)/tests/model/queue_model
$(MODEL): $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/model/*.c)) $(call archives,common/queue)
	@mkdir -p $(@D) && echo "  LINK  $@"
	$Q$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
model: $(MODEL)
	$Qtests/model/run.sh $(RESULTS)/model $(MODEL) $(HISTORIES) $(SEED)
.PHONY: model

.PHONY: format tidy
C_FILES = $(shell find common broker worker tests -name node_modules -prune -o -name '*.[ch]' -print)
format:
	$Q$(firstword $(shell command -v clang-format-14 clang-format)) -i $(C_FILES)
tidy:
	$Qdeploy/install-deps.sh --dev
	$Qclang-tidy --quiet $(filter common/%.c broker/%.c worker/%.c,$(C_FILES)) -- \
	  $(filter-out -ftrivial-auto-var-init=% -fstrict-flex-arrays=% -Wlogical-op -Wduplicated-cond,$(CFLAGS))
	$Qcppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  -I. -DPENSTOCK_VERSION='"$(VERSION)"' common broker worker

# --- running -----------------------------------------------------------------------------------

# Tools of the benchmark, one program a file.
BENCH_TOOLS = $(patsubst %.c,$(OUT)/%,$(wildcard tests/bench/*.c))
$(OUT)/tests/bench/%: $(OUT)/tests/bench/%.o $(EVERYTHING)
	@echo "  LINK  $@"
	$Q$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

.PHONY: demo bench bench-tools
bench-tools: $(BENCH_TOOLS)
demo:
	$Qdeploy/install-deps.sh
	$Q$(MAKE) BUILD='$(BUILD)' all
	$QPENSTOCK_BIN_DIR='$(abspath $(BUILD)/bin)' DEMO_RESULTS="$${DEMO_RESULTS:-$(BUILD)/demo}" deploy/demo.sh
bench:
	$Qdeploy/install-deps.sh --bench
	$Q$(MAKE) BUILD='$(BUILD)' all $(VENV)/.installed $(BENCH_TOOLS)
	$Q$(SUITE_ENV) PENSTOCK_BENCH_DIR='$(abspath $(OUT)/tests/bench)' PENSTOCK_PEERS_DIR='$(abspath $(BUILD)/peers)' \
	  PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python tests/bench/run.py --results '$(abspath $(RESULTS))' \
	  $(if $(QUICK),--quick) $(BENCH_ARGS)

# --- installing --------------------------------------------------------------------------------

PREFIX  ?= /usr/local
DESTDIR ?=
INSTALL ?= install
bindir  := $(PREFIX)/bin
libdir  := $(PREFIX)/lib
share   := $(PREFIX)/share
docdir  := $(share)/doc/penstock
MAN     := $(wildcard docs/man/*.[1-8])
UNITS   := $(wildcard deploy/systemd/*.service deploy/systemd/*.target)

# "source destination mode": read by install and by uninstall, so that the one undoes the other.
define INSTALLED
$(foreach file,$(BINARIES),$(file) $(bindir)/$(notdir $(file)) 755)
$(foreach file,$(MAN),$(file) $(share)/man/man$(patsubst .%,%,$(suffix $(file)))/$(notdir $(file)) 644)
$(foreach file,$(UNITS),$(file) $(libdir)/systemd/system/$(notdir $(file)) 644)
$(foreach file,$(wildcard deploy/systemd/*.sysusers),$(file) $(libdir)/sysusers.d/$(basename $(notdir $(file))).conf 644)
$(foreach file,$(wildcard deploy/systemd/*.tmpfiles),$(file) $(libdir)/tmpfiles.d/$(basename $(notdir $(file))).conf 644)
$(foreach file,$(wildcard deploy/completion/penstock),$(file) $(share)/bash-completion/completions/penstock 644)
$(foreach file,LICENSE $(wildcard README.md deploy/penstock.yaml deploy/redis.conf),$(file) $(docdir)/$(notdir $(file)) 644)
deploy/redis/mend-aof.sh $(docdir)/mend-aof.sh 755
endef
TRIPLES  = $(strip $(INSTALLED))

.PHONY: install uninstall
install: all
	$Qset -e; set -- $(TRIPLES); while [ $$# -ge 3 ]; do \
	  mkdir -p "$(DESTDIR)$${2%/*}"; \
	  case $$1 in \
	  *.service) sed 's,/usr/local/bin/,$(bindir)/,g' $$1 > "$(DESTDIR)$$2"; chmod $$3 "$(DESTDIR)$$2" ;; \
	  *) $(INSTALL) -m $$3 $$1 "$(DESTDIR)$$2" ;; \
	  esac; echo "  INST  $(DESTDIR)$$2"; shift 3; done
uninstall:
	$Qset -- $(TRIPLES); while [ $$# -ge 3 ]; do rm -f "$(DESTDIR)$$2"; shift 3; done
	$Q[ ! -d "$(DESTDIR)$(docdir)" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(docdir)"

.PHONY: clean help
clean:
	rm -rf $(BUILD)
help:
	@echo "make                 build bin/ with penstock, penstock-broker, penstock-worker, penstock-sim"
	@echo "make demo            install what is missing, build, run the shipped examples on the simulator"
	@echo "make test            install what is missing, then lint, unit, e2e, fault run, sanitizers"
	@echo "make check           lint and unit tests: under a minute"
	@echo "make e2e             the whole stack against a real Redis and the simulator"
	@echo "make simtest         the simulator itself"
	@echo "make faults-smoke    the fault rows that matter most;  make faults: all of them, and docs/faults.md"
	@echo "make soak            MINUTES=60 at half load, a fault a minute, then slopes (RATE=jobs/s SEED=n): docs/soak.md"
	@echo "make sanitize        unit and e2e with address and undefined behaviour sanitizers"
	@echo "make bench           throughput and latency, side by side with others (QUICK=1 BENCH_ARGS=...)"
	@echo "make fuzz-replay     every parser over its corpus and changed copies of it"
	@echo "make model           the queue's functions against a model (HISTORIES=10000 SEED=0: any)"
	@echo "make fuzz            every parser, FUZZ_SECONDS=60 each"
	@echo "make format, tidy    rewrite with clang-format; clang-tidy and cppcheck"
	@echo "make install, uninstall   DESTDIR= PREFIX=/usr/local"
	@echo "make clean           remove $(BUILD)"
	@echo "Options: BUILD=folder SAN=address,undefined FAILPOINTS=1 WERROR=1 V=1"

-include $(patsubst %.o,%.d,$(foreach name,$(FOLDERS),$(call objects,$(name))) $(MAINS) $(SIM) \
           $(addsuffix .o,$(TESTS)) $(shell find $(OUT)/tests -name '*.d' 2>/dev/null))
