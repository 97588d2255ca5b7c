/* Names and texts of the result codes, straight from the rows of error.h. */
#include "common/base/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *error_text_of(int code)
{
    switch (code) {
#define ERROR_CASE(name, number, text) \
    case name:                         \
        return text;
        ERROR_LIST(ERROR_CASE)
#undef ERROR_CASE
    default:
        return code >= 0 ? "no error" : "unknown error";
    }
}

const char *error_name_of(int code)
{
    switch (code) {
#define ERROR_CASE(name, number, text) \
    case name:                         \
        return #name;
        ERROR_LIST(ERROR_CASE)
#undef ERROR_CASE
    default:
        return code >= 0 ? "OK" : "ERR_UNKNOWN_CODE";
    }
}

int error_set(struct error_text *out, int code, const char *format, ...)
{
    va_list args;

    if (!out)
        return code;
    va_start(args, format);
    if (vsnprintf(out->text, sizeof out->text, format, args) < 0)
        out->text[0] = '\0';
    va_end(args);
    return code;
}
