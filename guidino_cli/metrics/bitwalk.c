/* Distances between the borders of two masks, by walking rows of bits outwards from every border pixel.
 *
 * Masks are packed to 64 pixels a word along the last axis. A border pixel that both masks share is 0 away. From every
 * other one the rows around it are visited in order of distance; in each, the nearest set bit comes from counting
 * zeros. The walk ends when the next row is farther than the best hit. The hit of the previous pixel is the first bound,
 * since neighbours have neighbouring partners. Squares are summed axis by axis, in scipy's order, so that results equal
 * those of a distance transform bit for bit (compile with -ffp-contract=off).
 *
 * Plain C99 without any Python; called through ctypes.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    long depth, height, width, words, lines; /* words of a line; lines = depth * height */
} Grid;

static void pack(const uint8_t *mask, const Grid *grid, uint64_t *bits) {
    for (long line = 0; line < grid->lines; line++) {
        const uint8_t *row = mask + line * grid->width;
        uint64_t *out = bits + line * grid->words;
        for (long word = 0; word < grid->words; word++) {
            long start = word * 64, end = start + 64 < grid->width ? start + 64 : grid->width;
            uint64_t value = 0;
            long x = start;
            for (; x + 8 <= end; x += 8) {
                uint64_t eight;
                memcpy(&eight, row + x, 8);
                if (eight) { /* bytes are 0 or 1: the product gathers them in its top byte */
                    value |= ((eight * 0x0102040810204080ULL) >> 56) << (x - start);
                }
            }
            for (; x < end; x++) value |= (uint64_t)row[x] << (x - start);
            out[word] = value;
        }
    }
}

/* The mask without its erosion by the cross; beyond the grid is background. flat: the first axis does not exist. */
static void find_border(const uint64_t *bits, const Grid *grid, int flat, uint64_t *border) {
    long words = grid->words, plane = grid->height * words;
    for (long z = 0; z < grid->depth; z++) {
        for (long y = 0; y < grid->height; y++) {
            const uint64_t *row = bits + z * plane + y * words;
            uint64_t *out = border + z * plane + y * words;
            for (long w = 0; w < words; w++) {
                uint64_t m = row[w];
                if (!m) {
                    out[w] = 0;
                    continue;
                }
                uint64_t inner = (m << 1 | (w ? row[w - 1] >> 63 : 0)) & (m >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0));
                inner &= (y ? row[w - words] : 0) & (y + 1 < grid->height ? row[w + words] : 0);
                if (!flat) inner &= (z ? row[w - plane] : 0) & (z + 1 < grid->depth ? row[w + plane] : 0);
                out[w] = m & ~inner;
            }
        }
    }
}

/* First and last word of every line that is not 0; first > last for an empty line. */
static void find_ends(const uint64_t *bits, const Grid *grid, int32_t *ends) {
    for (long line = 0; line < grid->lines; line++) {
        const uint64_t *row = bits + line * grid->words;
        long first = 0, last = grid->words - 1;
        while (first <= last && !row[first]) first++;
        while (last >= first && !row[last]) last--;
        ends[2 * line] = (int32_t)first;
        ends[2 * line + 1] = (int32_t)last;
    }
}

/* Nearest set bit of a row to x, if it lies nearer than best; d2 is the squared distance of the row itself. */
static inline double nearest_in_row(const uint64_t *row, int32_t first, int32_t last, long x, double step, double d2,
                                    double best, long *hit) {
    long home = x >> 6, shift = x & 63;
    if (home >= first) { /* to the left, x included */
        long w = home < last ? home : last;
        uint64_t m = row[w];
        if (w == home) m &= ~0ULL >> (63 - shift);
        for (;;) {
            if (m) {
                long at = w * 64 + 63 - __builtin_clzll(m);
                double dx = (double)(x - at) * step, total = d2 + dx * dx;
                if (total < best) best = total, *hit = at;
                break;
            }
            if (--w < first) break;
            double dx = (double)(x - (w * 64 + 63)) * step;
            if (d2 + dx * dx >= best) break;
            m = row[w];
        }
    }
    if (home <= last) { /* to the right */
        long w = home > first ? home : first;
        uint64_t m = row[w];
        if (w == home) m &= shift == 63 ? 0 : ~0ULL << (shift + 1);
        for (;;) {
            if (m) {
                long at = w * 64 + __builtin_ctzll(m);
                double dx = (double)(at - x) * step, total = d2 + dx * dx;
                if (total < best) best = total, *hit = at;
                break;
            }
            if (++w > last) break;
            double dx = (double)(w * 64 - x) * step;
            if (d2 + dx * dx >= best) break;
            m = row[w];
        }
    }
    return best;
}

/* Distances of all set bits of source to the set bits of target; those also in zero are 0.
 * Returns how many were written. Points that the offsets do not settle go to unsettled as flat positions. */
static long walk(const uint64_t *source, const uint64_t *target, const uint64_t *zero, const int32_t *ends,
                 const Grid *grid, const double *spacing, const int32_t *offsets, const double *squares, long offset_count,
                 double limit, double *distances, int64_t *unsettled, long *unsettled_count) {
    long count = 0, open = 0, zeros = 0, hit_line = -1, hit_x = 0;
    for (long line = 0; line < grid->lines; line++) {
        long z = line / grid->height, y = line % grid->height;
        for (long word = 0; word < grid->words; word++) {
            uint64_t here = source[line * grid->words + word];
            uint64_t away = here & ~zero[line * grid->words + word];
            zeros += __builtin_popcountll(here) - __builtin_popcountll(away);
            while (away) {
                long x = word * 64 + __builtin_ctzll(away);
                away &= away - 1;
                double best = INFINITY;
                if (hit_line >= 0) {
                    double dz = (double)(z - hit_line / grid->height) * spacing[0];
                    double dy = (double)(y - hit_line % grid->height) * spacing[1];
                    double dx = (double)(x - hit_x) * spacing[2];
                    best = dz * dz + dy * dy + dx * dx;
                }
                long k = 0;
                for (; k < offset_count && squares[k] < best; k++) {
                    long oz = z + offsets[2 * k], oy = y + offsets[2 * k + 1];
                    if (oz < 0 || oz >= grid->depth || oy < 0 || oy >= grid->height) continue;
                    long there = oz * grid->height + oy, hit = -1;
                    if (ends[2 * there] > ends[2 * there + 1]) continue;
                    best = nearest_in_row(target + there * grid->words, ends[2 * there], ends[2 * there + 1], x, spacing[2],
                                          squares[k], best, &hit);
                    if (hit >= 0) hit_line = there, hit_x = hit;
                }
                if (best > limit)
                    unsettled[open++] = line * grid->width + x;
                else
                    distances[count++] = sqrt(best);
            }
        }
    }
    for (long i = 0; i < zeros; i++) distances[count++] = 0.0;
    *unsettled_count = open;
    return count;
}

/* Both directions of two masks of bytes 0 or 1. inside: pixels inside the other mask are 0 away, not only those on its
 * border. offsets: rows as (depth, height) steps in order of distance, squares: their squared distances, limit: squared
 * distance of the first row left out. The arrays hold one element per border pixel; a count of pixels is always enough.
 * sizes: out, elements of forward, backward, unsettled forward, unsettled backward. Returns 0, or 1 without memory. */
int border_distances(const uint8_t *prediction, const uint8_t *truth, long depth, long height, long width, int flat,
                     int inside, const double *spacing, const int32_t *offsets, const double *squares, long offset_count,
                     double limit, double *forward, double *backward, int64_t *open_forward, int64_t *open_backward,
                     int64_t *sizes) {
    Grid grid = {depth, height, width, (width + 63) / 64, depth * height};
    size_t total = (size_t)(grid.lines * grid.words);
    uint64_t *bits = malloc(4 * total * sizeof(uint64_t));
    int32_t *ends = malloc(4 * (size_t)grid.lines * sizeof(int32_t));
    if (!bits || !ends) {
        free(bits);
        free(ends);
        return 1;
    }
    uint64_t *masks[2] = {bits, bits + total}, *borders[2] = {bits + 2 * total, bits + 3 * total};
    const uint8_t *given[2] = {prediction, truth};
    for (int side = 0; side < 2; side++) {
        pack(given[side], &grid, masks[side]);
        find_border(masks[side], &grid, flat, borders[side]);
        find_ends(borders[side], &grid, ends + 2 * side * grid.lines);
    }
    uint64_t **zero = inside ? masks : borders;
    long open[2];
    sizes[0] = walk(borders[0], borders[1], zero[1], ends + 2 * grid.lines, &grid, spacing, offsets, squares, offset_count,
                    limit, forward, open_forward, &open[0]);
    sizes[1] = walk(borders[1], borders[0], zero[0], ends, &grid, spacing, offsets, squares, offset_count, limit, backward,
                    open_backward, &open[1]);
    sizes[2] = open[0];
    sizes[3] = open[1];
    free(bits);
    free(ends);
    return 0;
}
