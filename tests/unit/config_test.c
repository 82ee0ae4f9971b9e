/* What the operator's options mean: sources, their order, and the sentences that refuse. */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/config.h"

#define ARGUMENT_COUNT_MAX 16

static struct tp_config config;
static char *printed;

/* Loads with the given arguments; `printed` has what went to `out`. */
static enum tp_config_result load(const char *const *arguments)
{
    char *argv[ARGUMENT_COUNT_MAX + 2] = {"teleportald"};
    size_t size;
    int argc = 1;

    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    free(printed);
    FILE *out = open_memstream(&printed, &size);
    const enum tp_config_result result = tp_config_load(argc, argv, &config, out);
    fclose(out);
    return result;
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* A config file with `text`, in a directory that nobody else uses. */
static const char *file_with(const char *text)
{
    static char path[64];
    strcpy(path, P_tmpdir "/teleportald-config-XXXXXX");
    const int fd = mkstemp(path);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void forget(void)
{
    free(printed);
    printed = NULL;
}

TestSuite(config, .fini = forget);

Test(config, has_a_default_for_every_option)
{
    cr_assert_eq(LOAD(), TP_CONFIG_RUN, "%s", config.error);

    cr_assert_eq(config.listen_count, 1);
    cr_assert_str_eq(config.listen[0], "127.0.0.1:1234");
    cr_assert_str_eq(config.admin, "127.0.0.1:9180");
    cr_assert_str_eq(config.data, "./teleportald-data");
    cr_assert_str_eq(config.config, "");
    cr_assert_str_eq(config.teleportal_path, "/teleportal");
    cr_assert_str_eq(config.yjs_path, "/yjs");
    cr_assert_eq(config.cores, 0, "auto");
    cr_assert_eq(config.durability, 2, "disk");
    cr_assert_eq(config.log_level, TP_CONFIG_LOG_INFO);
    cr_assert_eq(config.max_message_size, 10u << 20);
    cr_assert_eq(config.max_update_bytes, 64u << 20);
    cr_assert_not(config.public_metrics);
}

Test(config, takes_flags_with_a_blank_or_an_equals_sign)
{
    cr_assert_eq(LOAD("--cores", "3", "--durability=os", "--public-metrics", "on"), TP_CONFIG_RUN,
                 "%s", config.error);

    cr_assert_eq(config.cores, 3);
    cr_assert_eq(config.durability, 1);
    cr_assert(config.public_metrics);
}

Test(config, takes_underscores_for_dashes)
{
    cr_assert_eq(LOAD("--public_metrics=on"), TP_CONFIG_RUN);

    cr_assert(config.public_metrics);
}

Test(config, takes_several_addresses)
{
    cr_assert_eq(LOAD("--listen", "[::1]:80", "--listen=localhost:0,10.0.0.1:65535"), TP_CONFIG_RUN,
                 "%s", config.error);

    cr_assert_eq(config.listen_count, 3);
    cr_assert_str_eq(config.listen[0], "[::1]:80");
    cr_assert_str_eq(config.listen[1], "localhost:0");
    cr_assert_str_eq(config.listen[2], "10.0.0.1:65535");
}

Test(config, takes_addresses_for_tls)
{
    cr_assert_eq(LOAD("--listen", "tls://[::1]:443,127.0.0.1:80"), TP_CONFIG_RUN, "%s",
                 config.error);
    cr_assert_str_eq(config.listen[0], "tls://[::1]:443");

    cr_assert_eq(LOAD("--listen", "tls://"), TP_CONFIG_ERROR);
    cr_assert_eq(LOAD("--listen", "http://127.0.0.1:80"), TP_CONFIG_ERROR);
}

Test(config, lets_the_file_win_over_defaults_the_environment_over_the_file_and_flags_over_all)
{
    const char *path = file_with("cores = 4\nlisten = 10.0.0.1:1\nlisten = 10.0.0.2:1\n"
                                 "drain-seconds = 4\noutbox_size = 1M\n");
    setenv("TELEPORTALD_CORES", "5", 1);
    setenv("TELEPORTALD_DRAIN_SECONDS", "5", 1);
    setenv("TELEPORTALD_CONFIG", path, 1);

    const enum tp_config_result result = LOAD("--cores=6");

    unlink(path);
    cr_assert_eq(result, TP_CONFIG_RUN, "%s", config.error);
    cr_assert_eq(config.outbox_size, 1u << 20, "from the file");
    cr_assert_eq(config.drain_seconds, 5, "from the environment");
    cr_assert_eq(config.cores, 6, "from the command line");
    cr_assert_eq(config.listen_count, 2, "the file's addresses replace the default");
    cr_assert_str_eq(config.listen[1], "10.0.0.2:1");
}

Test(config, keeps_the_data_where_systemd_says)
{
    setenv("STATE_DIRECTORY", "/var/lib/first:/var/lib/second", 1);

    cr_assert_eq(LOAD(), TP_CONFIG_RUN);
    cr_assert_str_eq(config.data, "/var/lib/first");
    cr_assert_eq(LOAD("--data=/elsewhere"), TP_CONFIG_RUN);
    cr_assert_str_eq(config.data, "/elsewhere");
}

Test(config, ignores_variables_that_an_orchestrator_makes_up)
{
    setenv("TELEPORTALD_PORT", "tcp://10.0.0.1:1234", 1);

    cr_assert_eq(LOAD(), TP_CONFIG_RUN, "%s", config.error);
}

Test(config, has_a_management_address_of_this_machine_or_a_token_or_none)
{
    static const char *const good[] = {"off", "127.0.0.1:0", "127.1.2.3:9180", "[::1]:9180",
                                       "localhost:9180"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_assert_eq(LOAD("--admin", good[i]), TP_CONFIG_RUN, "%s", config.error);
        cr_assert_str_eq(config.admin, i == 0 ? "" : good[i]);
    }
    cr_assert_eq(LOAD("--admin=0.0.0.0:9180", "--admin-token-file=token"), TP_CONFIG_RUN);
    cr_assert_eq(LOAD("--admin=off", "--print-config"), TP_CONFIG_DONE);
    cr_assert_not_null(strstr(printed, "\nadmin = off\n"));
}

/* What is refused, and words that its sentence must have. */
struct refusal {
    const char *argument;
    const char *words[3];
};

Test(config, refuses_in_one_sentence_what_it_cannot_use)
{
    static const struct refusal refusals[] = {
        {"--color=red", {"--color=red", "command line", "--help"}},
        {"color", {"\"color\"", "not known", "command line"}},
        {"--", {"not known", "", ""}},
        {"--cores", {"--cores", "no value", "command line"}},
        {"--cores=0", {"cores", "\"0\"", "auto or a number from 1 to 240"}},
        {"--cores=241", {"cores", "\"241\"", "240"}},
        {"--cores=-1", {"cores", "\"-1\"", "240"}},
        {"--cores=", {"cores", "\"\"", "240"}},
        {"--cores=1x", {"cores", "\"1x\"", "240"}},
        {"--cores=18446744073709551617", {"cores", "18446744073709551617", "240"}},
        {"--worker-threads=auto", {"worker_threads", "\"auto\"", "from 1 to 64"}},
        {"--durability=tape", {"durability", "\"tape\"", "memory|os|disk"}},
        {"--durability=dis", {"durability", "\"dis\"", "memory|os|disk"}},
        {"--public-metrics=yes", {"public_metrics", "\"yes\"", "on or off"}},
        {"--listen=1234", {"listen", "\"1234\"", "HOST:PORT"}},
        {"--listen=host:65536", {"listen", "65536", "HOST:PORT"}},
        {"--listen=::1:80", {"listen", "::1:80", "HOST:PORT"}},
        {"--listen=[]:80", {"listen", "[]:80", "HOST:PORT"}},
        {"--listen=", {"listen", "\"\"", "HOST:PORT"}},
        {"--admin=9180", {"admin", "\"9180\"", "HOST:PORT or off"}},
        {"--admin=tls://127.0.0.1:1", {"admin", "tls://", "HOST:PORT or off"}},
        {"--admin=", {"admin", "\"\"", "HOST:PORT or off"}},
        {"--admin=0.0.0.0:9180", {"admin", "0.0.0.0:9180", "without admin_token_file"}},
        {"--admin=127.0.0.1.example:1", {"admin", "example", "without admin_token_file"}},
        {"--cors-origins=example.com", {"cors_origins", "\"example.com\"", "https://"}},
        {"--cors-origins=https://a.example/", {"cors_origins", "https://a.example/", "like"}},
        {"--cors-origins=*,https://a.example", {"cors_origins", "*,https", "like"}},
        {"--yjs-path=yjs", {"yjs_path", "\"yjs\"", "/yjs"}},
        {"--yjs-path=/yjs/", {"yjs_path", "\"/yjs/\"", "/yjs"}},
        {"--yjs-path=/y?s", {"yjs_path", "\"/y?s\"", "/yjs"}},
        {"--yjs-path=/teleportal", {"yjs_path", "teleportal_path", "both"}},
        {"--outbox-size=63k", {"outbox_size", "\"63k\"", "bytes from 64k to 1G"}},
        {"--outbox-size=20000000000G", {"outbox_size", "20000000000G", "bytes"}},
        {"--config=/nowhere/at.all", {"/nowhere/at.all", "cannot be read", "No such file"}},
    };

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *refusal = &refusals[i];
        cr_assert_eq(LOAD(refusal->argument), TP_CONFIG_ERROR, "%s", refusal->argument);
        for (int word = 0; word < 3; word++)
            cr_assert_not_null(strstr(config.error, refusal->words[word]), "%s: %s",
                               refusal->argument, config.error);
        cr_assert_null(strchr(config.error, '\n'));
        cr_assert_str_eq(printed, "");
    }
}

Test(config, says_which_line_of_the_file_it_refuses)
{
    static const struct {
        const char *text, *words;
    } files[] = {
        {"# fine\n\ncores = many\n", ":3"},
        {"cores = 1\n  cores = 0\n", ":2"},
        {"; fine\ncolour = red\n", "\"colour\" is not known"},
        {"cores 4\n", ":1 is neither"},
        {"[server]\ncores = 4\n", "[server]"},
        {"config = other.conf\n", "\"config\" is not known"},
    };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char argument[128];
        const char *path = file_with(files[i].text);
        snprintf(argument, sizeof argument, "--config=%s", path);
        const enum tp_config_result result = LOAD(argument);
        unlink(path);
        cr_assert_eq(result, TP_CONFIG_ERROR, "%s", files[i].text);
        cr_assert_not_null(strstr(config.error, files[i].words), "%s", config.error);
    }
}

Test(config, refuses_a_line_that_is_too_long_instead_of_reading_it_as_two)
{
    char text[1200] = "data = ";
    memset(text + 7, 'x', 1000);
    const char *path = file_with(text);
    char argument[128];
    snprintf(argument, sizeof argument, "--config=%s", path);

    const enum tp_config_result result = LOAD(argument);

    unlink(path);
    cr_assert_eq(result, TP_CONFIG_ERROR);
    cr_assert_not_null(strstr(config.error, ":1 is longer than"), "%s", config.error);
}

Test(config, takes_text_up_to_its_limit_and_not_one_byte_more)
{
    char argument[TP_CONFIG_TEXT_SIZE + 16] = "--data=/";
    memset(argument + 8, 'x', TP_CONFIG_TEXT_SIZE - 2);

    cr_assert_eq(LOAD(argument), TP_CONFIG_RUN, "%s", config.error);
    cr_assert_eq(strlen(config.data), TP_CONFIG_TEXT_SIZE - 1);
    argument[strlen(argument)] = 'x';
    cr_assert_eq(LOAD(argument), TP_CONFIG_ERROR);
}

Test(config, refuses_one_address_too_many)
{
    char argument[512] = "--listen=h:0";
    for (uint32_t i = 1; i < TP_CONFIG_LISTEN_COUNT_MAX; i++)
        strcat(argument, ",h:0");

    cr_assert_eq(LOAD(argument), TP_CONFIG_RUN, "%s", config.error);
    cr_assert_eq(config.listen_count, TP_CONFIG_LISTEN_COUNT_MAX);
    strcat(argument, ",h:0");
    cr_assert_eq(LOAD(argument), TP_CONFIG_ERROR);
    cr_assert_not_null(strstr(config.error, "at most 16"), "%s", config.error);
}

Test(config, prints_a_file_that_gives_the_same_config_when_read_back)
{
    cr_assert_eq(LOAD("--cores=2", "--listen=a:1,b:2", "--durability=memory", "--public-metrics=on",
                      "--outbox-size=1M"),
                 TP_CONFIG_RUN, "%s", config.error);
    const struct tp_config before = config;
    cr_assert_eq(LOAD("--cores=2", "--listen=a:1,b:2", "--durability=memory", "--public-metrics=on",
                      "--outbox-size=1M", "--print-config"),
                 TP_CONFIG_DONE);
    char argument[128];
    const char *path = file_with(printed);
    snprintf(argument, sizeof argument, "--config=%s", path);

    const enum tp_config_result result = LOAD(argument);

    unlink(path);
    cr_assert_eq(result, TP_CONFIG_RUN, "%s", config.error);
    memset(config.config, 0, sizeof config.config); /* the only thing that differs */
    cr_assert_arr_eq(&config, &before, sizeof config);
}

Test(config, helps_with_every_option_and_its_sentence)
{
    cr_assert_eq(LOAD("--help"), TP_CONFIG_DONE);

    cr_assert_not_null(strstr(printed, "  --public-metrics  off\n"), "%s", printed);
    cr_assert_not_null(strstr(printed, "Largest Yjs update"));
    cr_assert_not_null(strstr(printed, "Takes one of memory|os|disk."));
    for (const char *line = printed; *line != '\0'; line += strcspn(line, "\n") + 1)
        cr_assert_leq(strcspn(line, "\n"), 80, "%.100s", line);
}

Test(config, keeps_origins_with_one_blank_between_them)
{
    cr_assert_eq(LOAD("--cors-origins", " https://a.example ,http://b:8080,  http://[::1]:1 "),
                 TP_CONFIG_RUN, "%s", config.error);
    cr_assert_str_eq(config.cors_origins, "https://a.example http://b:8080 http://[::1]:1");

    cr_assert_eq(LOAD("--cors-origins", "*"), TP_CONFIG_RUN);
    cr_assert_str_eq(config.cors_origins, "*");
}

Test(config, tells_its_version)
{
    cr_assert_eq(LOAD("--version"), TP_CONFIG_DONE);

    cr_assert_str_eq(printed, "teleportald " TP_VERSION "\n");
}

/* The page between its two marks, without the fences of the code block. */
Test(config, is_printed_as_the_manual_has_it)
{
    static const char begin[] = "<!-- print-config -->\n```ini\n", end[] = "```\n<!-- end -->\n";
    static char page[1 << 16];
    FILE *file = fopen("docs/operating.md", "r");
    cr_assert_not_null(file, "tests run from the root of the repository");
    page[fread(page, 1, sizeof page - 1, file)] = '\0';
    fclose(file);
    const char *from = strstr(page, begin), *to = strstr(page, end);
    cr_assert(from != NULL && to != NULL);
    from += strlen(begin);

    cr_assert_eq(LOAD("--print-config"), TP_CONFIG_DONE);

    cr_assert(strlen(printed) == (size_t)(to - from) && memcmp(printed, from, to - from) == 0,
              "docs/operating.md is behind: tools/docs-options brings it up to date");
}
