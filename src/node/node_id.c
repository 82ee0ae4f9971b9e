#include "node/node_id.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/random.h"

#define FILE_NAME "node-id"

/* One line. False: there is none, or nothing that we would have written. */
static bool read_id(const char *path, char out[TP_NODE_ID_SIZE_MAX + 1])
{
    char line[TP_NODE_ID_SIZE_MAX + 2] = "";
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    const bool good = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
    if (!good || line[0] == '\0' || !tp_node_id_valid(line))
        return false;
    strcpy(out, line);
    return true;
}

static bool write_id(const char *path, const char *id)
{
    char beside[TP_CONFIG_TEXT_SIZE + 32];

    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *file = fopen(beside, "we");
    if (file == NULL)
        return false;
    bool good = fprintf(file, "%s\n", id) > 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    good = fclose(file) == 0 && good;
    return good && rename(beside, path) == 0;
}

bool tp_node_id_load(const struct tp_config *config, char out[TP_NODE_ID_SIZE_MAX + 1], char *error,
                     size_t error_size)
{
    char path[TP_CONFIG_TEXT_SIZE + 16];
    uint8_t random[16];

    if (config->node_id[0] != '\0') {
        strcpy(out, config->node_id);
        return true;
    }
    snprintf(path, sizeof path, "%s/" FILE_NAME, config->data);
    if (read_id(path, out))
        return true;
    tp_random_secret(random, sizeof random);
    memcpy(out, "node-", 5);
    tp_uuid_format(random, out + 5);
    out[5 + TP_UUID_SIZE] = '\0';
    if (write_id(path, out))
        return true;
    snprintf(error, error_size, "%s cannot be written: %s", path, strerror(errno));
    return false;
}
