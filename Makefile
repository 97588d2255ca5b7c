# Penstock. `make help` lists the targets.
#
#   make                               build everything under build/
#   make check                         lint and unit tests
#   make test                          install what is missing, then every suite; ends with "N passed, N failed"
#   make check SAN=address,undefined   the same with sanitizers, in a folder of its own
#   make BUILD=/tmp/x                  build somewhere else
#   make V=1                           show full command lines
#   make WERROR=1                      warnings are errors (continuous integration)

VERSION := 0.1.0
BUILD   ?= build
CFLAGS  ?= -O2 -g
CC      ?= cc
comma   := ,
OUT     := $(BUILD)$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))

# --- flags -------------------------------------------------------------------------------------

pkg-first = $(firstword $(foreach name,$(1),$(shell pkg-config --exists $(name) 2>/dev/null && echo $(name))))
PKGS := libuv hiredis $(call pkg-first,hiredis_ssl) libcurl json-c libcyaml libmicrohttpd openssl \
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
override CFLAGS  += -std=c11 -D_GNU_SOURCE -DPENSTOCK_VERSION='"$(VERSION)"' -I. $(WARN) $(HARD) $(DEPS)
override LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(if $(SAN),-fsanitize=$(SAN))

# --- what there is -----------------------------------------------------------------------------

# Every folder of docs/layers.txt is one archive; its row says what it may be linked with. main.c stays
# out of the archives: unit tests link with them and bring their own main.
FOLDERS := $(shell awk '/^[a-z]/ {print $$1}' docs/layers.txt)
below    = $(shell awk '$$1 == "$(1)" {for (i = NF; i > 1; i--) print $$i}' docs/layers.txt)
archives = $(patsubst %,$(OUT)/%.a,$(1) $(call below,$(1)))
sources  = $(filter-out $(1)/main.c,$(wildcard $(1)/*.c))
objects  = $(patsubst %.c,$(OUT)/%.o,$(call sources,$(1))) $(embedded-$(subst /,-,$(1)))

BINARIES := $(addprefix $(OUT)/bin/,$(if $(wildcard broker/main.c),penstock-broker) \
            $(if $(wildcard worker/main.c),penstock-worker) $(if $(wildcard broker/cli/main.c),penstock) \
            $(if $(wildcard tests/sim/*.c),penstock-sim))
TESTS    := $(sort $(patsubst %.c,$(OUT)/%,$(shell find tests/unit -name 'test_*.c' 2>/dev/null)))
MAINS    := $(patsubst %.c,$(OUT)/%.o,$(wildcard broker/main.c worker/main.c broker/cli/main.c))
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
.PHONY: all archives check lint unit clean help FORCE
all: $(BINARIES) archives

# --- building ----------------------------------------------------------------------------------

archives: $(foreach name,$(FOLDERS),$(if $(call sources,$(name)),$(OUT)/$(name).a))

$(OUT)/bin/penstock-broker: $(OUT)/broker/main.o $(call archives,broker)
$(OUT)/bin/penstock-worker: $(OUT)/worker/main.o $(call archives,worker)
$(OUT)/bin/penstock: $(OUT)/broker/cli/main.o $(call archives,broker/cli)
$(OUT)/bin/penstock-sim: LDLIBS := $(shell pkg-config --libs json-c openssl 2>/dev/null) -lm
$(OUT)/bin/penstock-sim: $(SIM)

# A unit test links with the archives of its own row only, so a call upwards does not link. Files beside
# the tests that are not tests themselves, and those of tests/unit/support, are helpers of every test.
helpers = $(patsubst %.c,$(OUT)/%.o,$(filter-out tests/unit/$(1)/test_%,$(wildcard tests/unit/$(1)/*.c)) \
          $(wildcard tests/unit/support/*.c))
define folder
$(OUT)/$(1).a: $(call objects,$(1))
$(OUT)/tests/unit/$(1)/%: $(OUT)/tests/unit/$(1)/%.o $(call helpers,$(1)) $(call archives,$(1))
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

unit: $(TESTS)
	$Qset -e; for test in $^; do $$test; done
check: lint unit
lint:

clean:
	rm -rf $(BUILD)

-include $(patsubst %.o,%.d,$(foreach name,$(FOLDERS),$(call objects,$(name))) $(MAINS) $(SIM) \
           $(addsuffix .o,$(TESTS)) $(shell find $(OUT)/tests/unit -name '*.d' 2>/dev/null))
