/* doctor: is everything as it must be? Configuration, keys, broker, upstreams; then what is in
 * Redis. One line a check; exit 0 only when nothing is wrong. It changes nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker/cli/client.h"
#include "broker/cli/doctor.h"
#include "broker/cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/keys.h"
#include "common/base/text.h"

enum { PROBE_MS = 5000 };

/* ---- saying -------------------------------------------------------------------------------------
 */

static void say_json(const char *state, const char *check, const char *detail)
{
    struct buf line = {.size_max = 65536};

    if (buf_printf(&line, "{\"state\": \"%s\", \"check\": ", state) == 0 &&
        json_put_string(&line, check, strlen(check)) == 0 &&
        buf_append_text(&line, ", \"detail\": ") == 0 &&
        json_put_string(&line, detail, strlen(detail)) == 0)
        printf("%s}\n", line.data);
    buf_deinit(&line);
}

void doctor_say(struct doctor *doctor, enum doctor_state state, const char *check,
                const char *format, ...)
{
    static const char *const words[] = {"ok", "warning", "problem"};
    static const char *const colours[] = {"\x1b[32m", "\x1b[33m", "\x1b[31m"};
    bool has_colour = doctor->cli->has_colour;
    char detail[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    doctor->checks++;
    doctor->warnings += state == DOCTOR_WARNING;
    doctor->problems += state == DOCTOR_PROBLEM;
    if (doctor->cli->is_json) {
        say_json(words[state], check, detail);
        return;
    }
    printf("%s%-8s%s %-24s ", has_colour ? colours[state] : "", words[state],
           has_colour ? "\x1b[0m" : "", check);
    terminal_put(stdout, detail);
    putchar('\n');
}

/* ---- configuration ------------------------------------------------------------------------------
 */

/* The file that counts. A running `penstock up` has written its own; without --config that one is
 * meant. */
static int load_settings(struct doctor *doctor, char up_path[4096], struct error_text *why)
{
    struct buf text = {.size_max = SETTINGS_FILE_SIZE_MAX};
    const char *path = doctor->cli->config_path;
    int status = settings_read_text(path, &text, &doctor->config_path, why);

    buf_deinit(&text);
    if (status == 0)
        status = settings_load(path, &doctor->settings, why);
    if (status < 0 || path || !cli_is_up(doctor->settings->data_dir))
        return status;
    snprintf(up_path, 4096, "%s/up.yaml", doctor->settings->data_dir);
    settings_destroy(doctor->settings);
    doctor->settings = NULL;
    doctor->config_path = up_path;
    return settings_load(up_path, &doctor->settings, why);
}

static void check_settings(struct doctor *doctor)
{
    const struct settings *settings = doctor->settings;

    if (settings->upstreams_count == 0)
        doctor_say(doctor, DOCTOR_WARNING, "configuration", "%s names no upstream",
                   doctor->config_path ? doctor->config_path : "no file: the built-in one");
    else
        doctor_say(doctor, DOCTOR_OK, "configuration", "%s is valid",
                   doctor->config_path ? doctor->config_path : "the built-in one");
    const char *listen = settings->listen;
    if (doctor->cli->has_url)
        snprintf(doctor->url, sizeof(doctor->url), "%s", doctor->cli->url);
    else if (text_starts_with(listen, "0.0.0.0:") || listen[0] == ':')
        snprintf(doctor->url, sizeof(doctor->url), "http://127.0.0.1%s", strrchr(listen, ':'));
    else
        snprintf(doctor->url, sizeof(doctor->url), "http://%s", listen);
}

static void check_keys(struct doctor *doctor)
{
    const char *path = doctor->settings->auth.keys_file;
    struct keys *keys = NULL;
    struct error_text why = {{0}};
    unsigned valid = 0;

    if (doctor->settings->auth.mode == AUTH_NONE) {
        doctor_say(doctor, DOCTOR_OK, "keys", "auth.mode is none: who reaches %s may do everything",
                   doctor->settings->listen);
        return;
    }
    int status = keys_load(path, &keys, &why);
    for (unsigned i = 0; status == 0 && i < keys_count(keys); i++)
        valid += key_is_valid(keys_at(keys, i), clock_wall_ms());
    if (status < 0 && status != ERR_NOT_FOUND)
        doctor_say(doctor, DOCTOR_PROBLEM, "keys", "%s", why.text);
    else if (valid == 0)
        doctor_say(doctor, DOCTOR_WARNING, "keys",
                   "%s holds no valid key: all calls are refused (penstock keys add)", path);
    else
        doctor_say(doctor, DOCTOR_OK, "keys", "%s holds %u valid keys of %u", path, valid,
                   keys_count(keys));
    keys_destroy(keys);
}

/* ---- what answers -------------------------------------------------------------------------------
 */

static int probe(const char *url, const char *path, const char *key, struct client_answer *answer,
                 struct error_text *why)
{
    struct client_request request = {.method = "GET", .path = path, .timeout_ms = PROBE_MS};
    struct client *client;
    int status = client_create(url, key, &client, why);

    if (status < 0)
        return status;
    status = client_call(client, &request, answer, why);
    client_destroy(client);
    return status;
}

static void check_broker(struct doctor *doctor)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};

    int status = text_starts_with(doctor->url, "http://unix:")
                     ? error_set(&why, ERR_OFFLINE, "%s: not looked at", doctor->settings->listen)
                     : probe(doctor->url, "/readyz", "", &answer, &why);
    doctor->has_broker = status == 0;
    if (status < 0)
        doctor_say(doctor, DOCTOR_WARNING, "broker", "none answers: %s", why.text);
    else if (answer.status == 200)
        doctor_say(doctor, DOCTOR_OK, "broker", "%s is ready", doctor->url);
    else
        doctor_say(doctor, DOCTOR_PROBLEM, "broker", "%s answers %d: %.200s", doctor->url,
                   answer.status, answer.body.data ? answer.body.data : "");
    client_answer_deinit(&answer);
}

/* From here; what workers see of their upstreams is another check. Any answer will do: this is
 * about the way there. */
static void check_upstream(struct doctor *doctor, const struct settings_upstream *upstream)
{
    bool has_key = upstream->api_key_env[0] != '\0';
    const char *key = has_key ? settings_environment(upstream->api_key_env) : "";
    struct client_answer answer = {0};
    struct error_text why = {{0}};

    int status = probe(upstream->base_url, "/models", key, &answer, &why);
    if (status < 0)
        doctor_say(doctor, DOCTOR_WARNING, "way to upstream", "%s cannot be reached from here: %s",
                   upstream->name, why.text);
    else if (has_key && key[0] == '\0')
        doctor_say(doctor, DOCTOR_WARNING, "way to upstream", "%s answers, but %s is not set here",
                   upstream->name, upstream->api_key_env);
    else if (answer.status == 401 || answer.status == 403)
        doctor_say(doctor, DOCTOR_WARNING, "way to upstream", "%s answers %d: its key is refused",
                   upstream->name, answer.status);
    else
        doctor_say(doctor, DOCTOR_OK, "way to upstream", "%s answers at %s", upstream->name,
                   upstream->base_url);
    client_answer_deinit(&answer);
}

/* Without a file, a variable, a running stack or a broker nobody has said which Redis is meant; the
 * one at the default address may belong to somebody else. */
static bool is_anything_set_up(const struct doctor *doctor)
{
    return doctor->config_path || doctor->has_broker ||
           settings_environment("PENSTOCK_REDIS_URL")[0] != '\0';
}

int cli_doctor(struct cli *cli, int argc, char **argv)
{
    struct doctor doctor = {.cli = cli};
    struct error_text why = {{0}};
    char up_path[4096];

    if (argc != 1)
        return cli_fail(CLI_USAGE, "%s takes no arguments", argv[0]);
    if (load_settings(&doctor, up_path, &why) < 0) {
        doctor_say(&doctor, DOCTOR_PROBLEM, "configuration", "%s", why.text);
        settings_destroy(doctor.settings);
        return CLI_USAGE;
    }
    check_settings(&doctor);
    check_broker(&doctor);
    if (is_anything_set_up(&doctor)) {
        check_keys(&doctor);
        for (unsigned i = 0; i < doctor.settings->upstreams_count; i++)
            check_upstream(&doctor, &doctor.settings->upstreams[i]);
        doctor_check_store(&doctor);
    } else {
        doctor_say(&doctor, DOCTOR_WARNING, "redis",
                   "not looked at: no configuration file, no PENSTOCK_REDIS_URL, no penstock up");
    }
    settings_destroy(doctor.settings);
    if (!cli->is_json)
        printf("%u checks, %u problems, %u warnings\n", doctor.checks, doctor.problems,
               doctor.warnings);
    return doctor.problems > 0 ? CLI_FAILED : CLI_DONE;
}
