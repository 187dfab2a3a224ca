// Masks over photos, and their shares in the cells of a model's maps: the arithmetic of Python's runtime/targets/sight.py.
#ifndef FUSIONCAM_MASK_HPP
#define FUSIONCAM_MASK_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"
#include "geometry.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "resize.hpp"

namespace fusioncam {

/// A part of a photo (H, W): what is not zero is inside. One byte a pixel without gaps between rows.
struct Mask {
    Size size;
    std::vector<std::uint8_t> values;
};

/// The mask in a picture: whatever is not black is inside.
inline Mask mask_of(const PhotoView &photo) {
    Mask mask{photo.size, std::vector<std::uint8_t>(photo.size.height * photo.size.width)};
    for (std::size_t i = 0; i < mask.values.size(); ++i) {
        mask.values[i] = std::any_of(photo.rgb + 3 * i, photo.rgb + 3 * i + 3, [](std::uint8_t v) { return v != 0; });
    }
    return mask;
}

namespace detail {

/// A matrix of doubles in rows.
struct Matrix {
    std::size_t rows, columns;
    std::vector<double> values;
};

/// The means of rows between `count` + 1 edges, each row by its share between them, transposed: (columns, count).
inline Matrix averaged(const Matrix &from, const Axis &axis, std::size_t count) {
    Matrix result{from.columns, count, std::vector<double>(from.columns * count)};
    const auto whole = static_cast<double>(axis.whole);
    const auto edge = [&](std::size_t i) {
        const double at = static_cast<double>(axis.size) * static_cast<double>(i) / static_cast<double>(count);
        return std::clamp((at + axis.start) * whole / axis.resized, 0.0, whole);
    };
    for (std::size_t cell = 0; cell < count; ++cell) {
        const double start = edge(cell), stop = edge(cell + 1);
        const auto end = std::min(static_cast<std::size_t>(std::ceil(stop)), from.rows);
        for (auto row = static_cast<std::size_t>(start); row < end; ++row) {
            const auto at = static_cast<double>(row);
            const double share = std::max(std::min(at + 1, stop) - std::max(at, start), 0.0);
            for (std::size_t column = 0; column < from.columns; ++column) {
                result.values[column * count + cell] += share * from.values[row * from.columns + column];
            }
        }
        for (std::size_t column = 0; column < from.columns; ++column) {
            result.values[column * count + cell] /= std::max(stop - start, 1e-12);
        }
    }
    return result;
}

/// The share of each cell of the maps that lies in a mask, (h', w'). `photo` is the size of the photo; none where the input
/// came preprocessed. Throws UsageError where the mask is of another size, or the model sees nothing of it.
inline std::vector<float> shares(const Mask &mask, std::optional<Size> photo, const Manifest &manifest) {
    const Size input = manifest.preprocessing.size, size = photo.value_or(input), map = manifest.map_size;
    const auto text = [](Size s) { return std::to_string(s.width) + " x " + std::to_string(s.height); };
    const auto is_zero = [](auto value) { return value == 0; };
    if (mask.size != size || mask.values.size() != size.height * size.width) {
        throw UsageError("the mask has " + text(mask.size) + " pixels, but the photo has " + text(size) +
                         ": give a mask of the same size");
    }
    if (std::all_of(mask.values.begin(), mask.values.end(), is_zero)) {
        throw UsageError("the mask is empty: everything in it is zero");
    }
    const Axes both = way_of(photo, manifest.preprocessing);
    Matrix inside{size.height, size.width, std::vector<double>(mask.values.size())};
    std::transform(mask.values.begin(), mask.values.end(), inside.values.begin(), [](auto v) { return v != 0; });
    const Matrix result = averaged(averaged(inside, both.rows, map.height), both.columns, map.width);
    if (std::all_of(result.values.begin(), result.values.end(), is_zero)) {
        throw UsageError("nothing of the mask is left where the photo is cropped: the model does not see it");
    }
    return {result.values.begin(), result.values.end()};
}

} // namespace detail
} // namespace fusioncam

#endif
