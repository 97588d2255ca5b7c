/* What went wrong with a call, in words and exit codes. */
#include "broker/cli/cli.h"
#include "broker/cli/client.h"

enum { USUAL_PATIENCE_MS = 10000 };

void client_explain(const struct client_answer *answer, struct error_text *why)
{
    const struct jval *root, *error;
    const char *detail = NULL, *code = NULL;
    struct jdoc *doc = NULL;

    if (answer->body.size > 0 &&
        jdoc_parse(answer->body.data, answer->body.size, &doc, NULL) == 0) {
        root = jdoc_root(doc);
        error = jval_get(root, "error");
        detail = jval_string(jval_get(error ? error : root, error ? "message" : "detail"), NULL);
        code = jval_string(jval_get(error ? error : root, "code"), NULL);
    }
    bool has_code = code && code[0] != '\0';
    error_set(why, ERR_INVALID, "%d: %s%s%s%s%s", answer->status,
              detail ? detail : "the server gave no reason", has_code ? " (" : "",
              has_code ? code : "", has_code ? ")" : "",
              answer->status == 401 ? "; give it with --key or PENSTOCK_API_KEY" : "");
    jdoc_destroy(doc);
}

int client_fail(int code, const struct error_text *why)
{
    if (code == ERR_STATE)
        return CLI_INTERRUPTED;
    int exit_code = code == ERR_INVALID                        ? CLI_USAGE
                    : code == ERR_TOO_BIG || code == ERR_NOMEM ? CLI_FAILED
                                                               : CLI_UNREACHABLE;
    return cli_fail(exit_code, "%s", why->text);
}

int client_refused(const struct client_answer *answer)
{
    struct error_text why;

    client_explain(answer, &why);
    return cli_fail(answer->status == 404 || answer->status == 410 ? CLI_NOT_FOUND : CLI_FAILED,
                    "%s", why.text);
}

int client_json(struct cli *cli, const struct client_request *request, int64_t patience_ms,
                struct client_answer *answer, struct jdoc **out)
{
    struct error_text why = {{0}};
    int code = client_call_patiently(cli_client(cli), request, patience_ms, answer, &why);

    if (code < 0)
        return client_fail(code, &why);
    if (answer->status < 200 || answer->status >= 300)
        return client_refused(answer);
    if (jdoc_parse(answer->body.data ? answer->body.data : "", answer->body.size, out, &why) < 0)
        return cli_fail(CLI_FAILED, "the server's answer is not JSON: %s", why.text);
    return CLI_DONE;
}

int client_get(struct cli *cli, const char *path, struct client_answer *answer, struct jdoc **out)
{
    struct client_request request = {.method = "GET", .path = path};

    return client_json(cli, &request, USUAL_PATIENCE_MS, answer, out);
}
