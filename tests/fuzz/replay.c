/* Gives every file of the corpus directories named by the arguments to a fuzz target, once. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* Runs one file; the input is exactly as large as the file, so that a byte read past it is seen. */
static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = -1;

    if (file != NULL && fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    if (size < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    rewind(file);
    unsigned char *data = malloc((size_t)size);
    const size_t got = fread(data, 1, (size_t)size, file);
    fclose(file);
    if (got == (size_t)size)
        LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return got == (size_t)size ? 0 : -1;
}

/* How many files were run, or -1. */
static int replay_directory(const char *path)
{
    struct dirent **entries;
    const int entry_count = scandir(path, &entries, NULL, alphasort);
    int count = 0;

    if (entry_count < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < entry_count; i++) {
        char file[4096];
        if (entries[i]->d_name[0] != '.' && count >= 0) {
            snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
            count = replay_file(file) == 0 ? count + 1 : -1;
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

int main(int argument_count, char **arguments)
{
    for (int i = 1; i < argument_count; i++) {
        const int count = replay_directory(arguments[i]);
        if (count <= 0) {
            fprintf(stderr, "%s: no inputs\n", arguments[i]);
            return 1;
        }
        printf("%s: %d inputs\n", arguments[i], count);
    }
    return argument_count > 1 ? 0 : 2;
}
