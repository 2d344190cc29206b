/* Runs inputs through a target where there is no libFuzzer: fuzz_<target> FILE or DIRECTORY... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned runs;

static void one(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20);
    size_t n;

    if (!f) {
        perror(path);
        exit(2);
    }
    n = fread(data, 1, 1 << 20, f);
    fclose(f);
    if (getenv("FUZZ_NAMES"))
        fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    runs++;
}

static void all(const char *path)
{
    struct stat st;
    struct dirent **list;
    int n;

    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        one(path);
        return;
    }
    n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];

        snprintf(file, sizeof(file), "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.')
            one(file);
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            all(argv[i]);
    printf("%u inputs\n", runs);
    return 0;
}
