/* Distances between the borders of two masks, by walking rows of bits outwards from every border pixel.
 *
 * Masks are packed to 64 pixels a word along the last axis. A border pixel that both masks share is 0 away. From every
 * other one the rows around it are visited in order of distance; in each, the nearest set bit comes from counting
 * zeros. The walk ends when the next row is farther than the best hit. The hit of the previous pixel is the first bound,
 * since neighbours have neighbouring partners. Before that, partners a few pixels away are found for 64 pixels at once by
 * shifting the other border. Squares are summed axis by axis, in scipy's order, so that results equal
 * those of a distance transform bit for bit (compile with -ffp-contract=off).
 *
 * Plain C99 without any Python; called through ctypes.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Every line has a word of zeros before and after its own, so that neighbours need no question. */
typedef struct {
    long depth, height, width, words, stride, lines; /* words of a line, with the two of zeros; lines = depth * height */
    int flat;                                        /* the first axis does not exist */
} Grid;

#define SIGHT 32 /* pixels to each side that are looked at in one piece */

/* 64 bytes of 0 or 1 as bits. */
static inline uint64_t gather(const uint8_t *bytes) {
    uint64_t value = 0;
#ifdef __SSE2__
    for (int part = 0; part < 4; part++) {
        __m128i sixteen = _mm_loadu_si128((const __m128i *)(bytes + 16 * part));
        value |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_slli_epi16(sixteen, 7)) << (16 * part);
    }
#else
    for (int part = 0; part < 8; part++) {
        uint64_t eight = 0;
        for (int i = 0; i < 8; i++) eight |= (uint64_t)bytes[8 * part + i] << (8 * i);
        /* The product gathers the lowest bits of eight bytes in its top byte. */
        value |= ((eight * 0x0102040810204080ULL) >> 56) << (8 * part);
    }
#endif
    return value;
}

static void pack(const uint8_t *mask, const Grid *grid, uint64_t *bits) {
    for (long line = 0; line < grid->lines; line++) {
        const uint8_t *row = mask + line * grid->width;
        uint64_t *out = bits + line * grid->stride + 1;
        long whole = grid->width / 64, rest = grid->width % 64;
        for (long word = 0; word < whole; word++) out[word] = gather(row + 64 * word);
        if (rest) {
            uint8_t last[64] = {0};
            memcpy(last, row + 64 * whole, (size_t)rest);
            out[whole] = gather(last);
        }
        out[-1] = out[grid->words] = 0;
    }
}

/* The lines around a line, in the order up, down, front, back; nothing where there is none. */
static void neighbours(const uint64_t *bits, const Grid *grid, long line, const uint64_t *nothing, const uint64_t *around[4]) {
    long z = line / grid->height, y = line % grid->height, plane = grid->height * grid->stride;
    const uint64_t *row = bits + line * grid->stride;
    around[0] = y ? row - grid->stride : nothing;
    around[1] = y + 1 < grid->height ? row + grid->stride : nothing;
    around[2] = z ? row - plane : nothing;
    around[3] = z + 1 < grid->depth ? row + plane : nothing;
}

/* The mask without its erosion by the cross; beyond the grid is background. */
static void find_border(const uint64_t *bits, const Grid *grid, const uint64_t *nothing, uint64_t *border) {
    for (long line = 0; line < grid->lines; line++) {
        const uint64_t *row = bits + line * grid->stride, *around[4];
        uint64_t *out = border + line * grid->stride;
        neighbours(bits, grid, line, nothing, around);
        const uint64_t *up = around[0], *down = around[1], *front = around[2], *back = around[3];
        if (grid->flat) front = back = row;
        out[0] = out[grid->stride - 1] = 0;
        for (long w = 1; w <= grid->words; w++) {
            uint64_t inner = (row[w] << 1 | row[w - 1] >> 63) & (row[w] >> 1 | row[w + 1] << 63);
            out[w] = row[w] & ~(inner & up[w] & down[w] & front[w] & back[w]);
        }
    }
}

/* Removes the bits that are set in ignored or beside a bit set there. */
static void keep_away(const uint64_t *ignored, const Grid *grid, const uint64_t *nothing, uint64_t *border) {
    for (long line = 0; line < grid->lines; line++) {
        const uint64_t *row = ignored + line * grid->stride, *around[4];
        uint64_t *out = border + line * grid->stride;
        neighbours(ignored, grid, line, nothing, around);
        for (long w = 1; w <= grid->words; w++) {
            uint64_t near = row[w] | row[w] << 1 | row[w - 1] >> 63 | row[w] >> 1 | row[w + 1] << 63;
            for (int side = 0; side < 4; side++) near |= around[side][w];
            out[w] &= ~near;
        }
    }
}

/* First and last word of every line that is not 0; first > last for an empty line. */
static void find_ends(const uint64_t *bits, const Grid *grid, int32_t *ends) {
    for (long line = 0; line < grid->lines; line++) {
        const uint64_t *row = bits + line * grid->stride + 1;
        long first = 0, last = grid->words - 1;
        while (first <= last && !row[first]) first++;
        while (last >= first && !row[last]) last--;
        ends[2 * line] = (int32_t)first;
        ends[2 * line + 1] = (int32_t)last;
    }
}

static long count_bits(const uint64_t *bits, const Grid *grid) {
    long count = 0;
    for (long i = 0; i < grid->lines * grid->stride; i++) count += bits[i] ? __builtin_popcountll(bits[i]) : 0;
    return count;
}

/* Nearest set bit of a whole row to x, if it lies nearer than best; d2 is the squared distance of the row itself. */
static double search_row(const uint64_t *row, int32_t first, int32_t last, long x, double step, double d2, double best,
                         long *hit) {
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

/* Where to look, nearest first, with squared distances. */
typedef struct {
    const int32_t *pixels; /* steps to the pixels close by, as (depth, height, width); complete up to the last distance */
    const double *pixel_squares;
    long pixel_count;
    const int32_t *rows; /* steps to the rows, as (depth, height) */
    const double *row_squares;
    long row_count;
    double limit; /* of the first row left out */
} Around;

/* The bits of away that have a target pixel close by: writes their distances and returns how many there were. */
static long look_close(uint64_t *away, const uint64_t *target, const Grid *grid, long z, long y, long word,
                       const Around *around, double *distances) {
    long count = 0, patience = 2;
    for (long k = 0; k < around->pixel_count && *away;) {
        double square = around->pixel_squares[k];
        uint64_t seen = 0;
        for (; k < around->pixel_count && around->pixel_squares[k] == square; k++) {
            const int32_t *step = around->pixels + 3 * k;
            long oz = z + step[0], oy = y + step[1];
            if ((unsigned long)oz >= (unsigned long)grid->depth) continue;
            if ((unsigned long)oy >= (unsigned long)grid->height) continue;
            const uint64_t *at = target + (oz * grid->height + oy) * grid->stride + 1 + word;
            if (step[2] > 0)
                seen |= at[0] >> step[2] | at[1] << (64 - step[2]);
            else
                seen |= step[2] ? at[0] << -step[2] | at[-1] >> (64 + step[2]) : at[0];
        }
        seen &= *away;
        *away &= ~seen;
        if (!seen && !--patience) break; /* Borders far apart, as of a badly placed lesion: the rows are quicker. */
        double distance = sqrt(square);
        for (int i = __builtin_popcountll(seen); i; i--) distances[count++] = distance;
    }
    return count;
}

/* Distances of the set bits of source to those of target; those also in zero are 0. Returns how many were written.
 * Points that the rows do not settle go to unsettled as flat positions. */
static long walk(const uint64_t *source, const uint64_t *target, const uint64_t *zero, const int32_t *ends,
                 const Grid *grid, const double *spacing, const Around *around, double *distances, int64_t *unsettled,
                 int64_t *unsettled_count) {
    double side[SIGHT + 2]; /* squares of the distances along a row; the last one means that nothing was seen */
    for (int i = 0; i <= SIGHT; i++) side[i] = ((double)i * spacing[2]) * ((double)i * spacing[2]);
    side[SIGHT + 1] = INFINITY;
    long count = 0, open = 0, zeros = 0, hit_z = -1, hit_y = 0, hit_x = 0;
    for (long line = 0; line < grid->lines; line++) {
        long z = line / grid->height, y = line % grid->height;
        for (long word = 0; word < grid->words; word++) {
            uint64_t here = source[line * grid->stride + 1 + word];
            if (!here) continue;
            uint64_t away = here & ~zero[line * grid->stride + 1 + word];
            zeros += __builtin_popcountll(here) - __builtin_popcountll(away);
            if (away) count += look_close(&away, target, grid, z, y, word, around, distances + count);
            while (away) {
                long x = word * 64 + __builtin_ctzll(away), start = x - SIGHT;
                long sight = 1 + (start >> 6), shift = start & 63;
                away &= away - 1;
                double best = INFINITY;
                if (hit_z >= 0) {
                    double dz = (double)(z - hit_z) * spacing[0];
                    double dy = (double)(y - hit_y) * spacing[1];
                    double dx = (double)(x - hit_x) * spacing[2];
                    best = dz * dz + dy * dy + dx * dx;
                }
                for (long k = 0; k < around->row_count; k++) {
                    double d2 = around->row_squares[k];
                    if (d2 >= best) break;
                    long oz = z + around->rows[2 * k], oy = y + around->rows[2 * k + 1];
                    if ((unsigned long)oz >= (unsigned long)grid->depth) continue;
                    if ((unsigned long)oy >= (unsigned long)grid->height) continue;
                    long there = oz * grid->height + oy, hit = -1;
                    const uint64_t *row = target + there * grid->stride;
                    uint64_t seen = row[sight] >> shift | row[sight + 1] << 1 << (63 - shift);
                    if (seen) { /* bit SIGHT is x itself */
                        uint64_t left = seen & ((1ULL << SIGHT << 1) - 1), right = seen >> SIGHT;
                        int to_left = left ? __builtin_clzll(left) - (63 - SIGHT) : SIGHT + 1;
                        int to_right = right ? __builtin_ctzll(right) : SIGHT + 1;
                        int nearest = to_left < to_right ? to_left : to_right;
                        if (d2 + side[nearest] < best) {
                            best = d2 + side[nearest];
                            hit = nearest == to_left ? x - nearest : x + nearest;
                        }
                    } else if (d2 + side[SIGHT] < best && ends[2 * there] <= ends[2 * there + 1]) {
                        best = search_row(row + 1, ends[2 * there], ends[2 * there + 1], x, spacing[2], d2, best, &hit);
                    }
                    if (hit >= 0) hit_z = oz, hit_y = oy, hit_x = hit;
                }
                if (best > around->limit)
                    unsettled[open++] = line * grid->width + x;
                else
                    distances[count++] = sqrt(best);
            }
        }
    }
    memset(distances + count, 0, (size_t)zeros * sizeof(double));
    *unsettled_count = open;
    return count + zeros;
}

/* Both directions of two masks of bytes 0 or 1.
 *
 * ignored: bytes 0 or 1, or NULL; border pixels in or beside it are not measured, only measured to.
 * flat: the first axis does not exist. inside: pixels inside the other mask are 0 away, not only those on its border.
 * pixels and rows with their squares and the limit: see Around; spacing: pixel size along the three axes.
 * distances, unsettled: out, capacity elements each (unsettled: none if the limit is infinite); those of the prediction
 *          first, then from element number sizes[0] those of the truth.
 * sizes: out, border pixels of the prediction and of the truth, then how many of each are unsettled.
 * Returns 0; 1 without memory; 2 if the capacity is too small, with sizes[0] and [1] set. */
int measure_borders(const uint8_t *prediction, const uint8_t *truth, const uint8_t *ignored, long depth, long height,
                     long width, int flat, int inside, const double *spacing, const int32_t *pixels,
                     const double *pixel_squares, long pixel_count, const int32_t *rows, const double *row_squares,
                     long row_count, double limit, long capacity, double *distances, int64_t *unsettled, int64_t *sizes) {
    Grid grid = {depth, height, width, (width + 63) / 64, (width + 63) / 64 + 2, depth * height, flat};
    Around around = {pixels, pixel_squares, pixel_count, rows, row_squares, row_count, limit};
    size_t total = (size_t)(grid.lines * grid.stride), maps = ignored ? 7 : 4;
    /* masks, their borders, the border pixels to be measured from, what is ignored, a line of nothing */
    uint64_t *bits = malloc((maps * total + (size_t)grid.stride) * sizeof(uint64_t));
    int32_t *ends = malloc(4 * (size_t)grid.lines * sizeof(int32_t));
    int status = bits && ends ? 0 : 1;
    if (!status) {
        uint64_t *masks[2] = {bits, bits + total}, *borders[2] = {bits + 2 * total, bits + 3 * total};
        uint64_t *sources[2] = {borders[0], borders[1]}, *nothing = bits + maps * total;
        const uint8_t *given[2] = {prediction, truth};
        memset(nothing, 0, (size_t)grid.stride * sizeof(uint64_t));
        if (ignored) pack(ignored, &grid, bits + 6 * total);
        for (int side = 0; side < 2; side++) {
            pack(given[side], &grid, masks[side]);
            find_border(masks[side], &grid, nothing, borders[side]);
            find_ends(borders[side], &grid, ends + 2 * side * grid.lines);
            if (ignored) {
                sources[side] = bits + (4 + side) * total;
                memcpy(sources[side], borders[side], total * sizeof(uint64_t));
                keep_away(bits + 6 * total, &grid, nothing, sources[side]);
            }
            sizes[side] = count_bits(sources[side], &grid);
        }
        if (sizes[0] + sizes[1] > capacity) status = 2;
        for (int side = 0; side < 2 && !status; side++) {
            long before = side ? sizes[0] : 0;
            walk(sources[side], borders[1 - side], inside ? masks[1 - side] : borders[1 - side],
                 ends + 2 * (1 - side) * grid.lines, &grid, spacing, &around, distances + before, unsettled + before,
                 &sizes[2 + side]);
        }
    }
    free(bits);
    free(ends);
    return status;
}
