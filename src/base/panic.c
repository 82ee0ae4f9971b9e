#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

_Noreturn void tp_panic(const char *file, int line, const char *claim)
{
    fprintf(stderr, "teleportald: bug: %s:%d: %s does not hold\n", file, line, claim);
    abort();
}
