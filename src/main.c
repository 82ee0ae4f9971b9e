/* teleportald: the server that Yjs applications connect to. */
#include <stdio.h>

#include "node/config.h"
#include "node/server.h"

int main(int argc, char *argv[])
{
    static struct tp_config config;

    switch (tp_config_load(argc, argv, &config, stdout)) {
    case TP_CONFIG_DONE:
        return 0;
    case TP_CONFIG_ERROR:
        fprintf(stderr, "teleportald: %s\n", config.error);
        return 2;
    case TP_CONFIG_RUN:
        break;
    }
    return tp_server_main(&config);
}
