// Where a photo lands in the model's input, and the way back: the arithmetic of Python's runtime/photos/geometry.py.
#ifndef FUSIONCAM_GEOMETRY_HPP
#define FUSIONCAM_GEOMETRY_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "linear.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "resize.hpp"
#include "shrink.hpp"

namespace fusioncam {
namespace detail {

struct Axes {
    Axis rows, columns;
};

/// Rows and columns of a photo on their way to the model, rounded as those who trained it round them.
inline Axes axes(Size photo, const Preprocessing &p) {
    const auto ratio = [](std::size_t a, std::size_t b) { return static_cast<double>(a) / static_cast<double>(b); };
    const double down = ratio(p.size.height, photo.height), across = ratio(p.size.width, photo.width);
    const double scale = std::max(down, across), fit = std::min(down, across);
    // Halves to even, as Python's round does.
    const auto half = [&p](double left) {
        return p.crop_rounding == "down" ? std::floor(left / 2) : std::nearbyint(left / 2);
    };
    const auto axis = [&](std::size_t pixels, std::size_t kept) {
        const auto whole = static_cast<std::int64_t>(pixels), size = static_cast<std::int64_t>(kept);
        const double all = static_cast<double>(pixels), wanted = static_cast<double>(kept);
        if (p.resize == "squash") {
            return Axis{whole, wanted, 0, size};
        }
        if (p.resize == "crop_first") {
            const double length = std::max(std::floor(wanted / scale * p.crop_fraction + 1e-6), 1.0);
            return Axis{whole, wanted * all / length, half(all - length) * wanted / length, size};
        }
        if (p.resize == "letterbox") {
            const double exact = all * fit;
            const double rounded = p.pad_rounding == "down" ? std::floor(exact)
                                   : p.pad_rounding == "up" ? std::floor(exact + 0.5)
                                                            : std::nearbyint(exact);
            const double resized = std::max(rounded, 1.0);
            const double before = p.pad_place == "centre" ? std::nearbyint((wanted - resized) / 2 - 0.1) : 0;
            return Axis{whole, resized, 0 - before, size};
        }
        // The small term keeps 255.99999 from becoming 255.
        const double resized = p.resize == "squash_crop"
                                   ? std::nearbyint(wanted / p.crop_fraction)
                                   : std::max(std::floor(all * (scale / p.crop_fraction) + 1e-6), wanted);
        return Axis{whole, resized, half(resized - wanted), size};
    };
    return {axis(photo.height, p.size.height), axis(photo.width, p.size.width)};
}

/// The way of a photo of this size, or of a preprocessed input, which stays as it is.
inline Axes way_of(std::optional<Size> photo, const Preprocessing &p) {
    const auto as_it_is = [](std::size_t n) {
        return Axis{static_cast<std::int64_t>(n), static_cast<double>(n), 0, static_cast<std::int64_t>(n)};
    };
    return photo ? axes(*photo, p) : Axes{as_it_is(p.size.height), as_it_is(p.size.width)};
}

/// The samples of an axis that the nearest neighbour takes, found by adding up, as Pillow does: halves fall alike.
inline std::vector<std::size_t> nearest(const Axis &axis) {
    const double step = static_cast<double>(axis.whole) / axis.resized;
    const auto start = static_cast<std::int64_t>(axis.start);
    std::vector<std::size_t> result;
    double at = step * 0.5;
    for (std::int64_t i = 0; i < start + axis.size; ++i, at += step) {
        if (i >= start) {
            result.push_back(static_cast<std::size_t>(std::min(static_cast<std::int64_t>(at), axis.whole - 1)));
        }
    }
    return result;
}

/// The pixels of a photo in these rows and columns.
inline Photo picked(const PhotoView &photo, const std::vector<std::size_t> &rows,
                    const std::vector<std::size_t> &columns) {
    Photo result{{rows.size(), columns.size()}, {}};
    result.rgb.reserve(rows.size() * columns.size() * 3);
    for (const std::size_t row : rows) {
        for (const std::size_t column : columns) {
            const std::uint8_t *pixel = photo.rgb + (row * photo.size.width + column) * 3;
            result.rgb.insert(result.rgb.end(), pixel, pixel + 3);
        }
    }
    return result;
}

/// The part of a photo that the model sees, in the photo's own pixels.
inline Photo visible_part(const PhotoView &photo, const Axes &axes) {
    const auto all = [](const Axis &axis) {
        const auto [first, end] = axis.seen();
        std::vector<std::size_t> result(end - first);
        std::iota(result.begin(), result.end(), first);
        return result;
    };
    return picked(photo, all(axes.rows), all(axes.columns));
}

/// The number of a photo's channel c among those of the model; a grey model has one.
inline std::size_t channel_of(std::size_t c, const Preprocessing &p) {
    return p.channel_order == "grey" ? 0 : p.channel_order == "bgr" ? 2 - c : c;
}

/// A resized photo in a letterbox.
inline Photo padded(const Photo &inside, const Axes &axes, const Preprocessing &p) {
    Photo result{p.size, std::vector<std::uint8_t>(p.size.height * p.size.width * 3)};
    for (std::size_t i = 0; i < result.rgb.size(); ++i) {
        result.rgb[i] = to_byte(static_cast<float>(p.pad[channel_of(i % 3, p)]));
    }
    const std::size_t top = axes.rows.filled().first, left = axes.columns.filled().first;
    const std::size_t length = inside.size.width * 3;
    for (std::size_t y = 0; y < inside.size.height; ++y) {
        std::copy_n(&inside.rgb[y * length], length, &result.rgb[((top + y) * p.size.width + left) * 3]);
    }
    return result;
}

} // namespace detail

/// What the model sees of a photo, pixel for pixel: its maps lie on this picture.
/// `squash` resizes to the model's size and ignores the aspect ratio; `crop` resizes the photo, aspect ratio kept,
/// until it just covers size / crop_fraction, then cuts the size out of the centre; `squash_crop` resizes to
/// size / crop_fraction, aspect ratio ignored, then cuts; `crop_first` cuts the largest centred part of the size's
/// aspect ratio, times crop_fraction, and resizes that; `letterbox` resizes the whole photo, aspect ratio kept, until it
/// just fits into the size, and fills the rest with `pad`. Of the model's size already, a photo stays as it is.
inline Photo display_image(const PhotoView &photo, const Preprocessing &preprocessing) {
    const detail::Axes both = detail::axes(photo.size, preprocessing);
    if (preprocessing.resize == "letterbox") {
        Preprocessing inside = preprocessing;
        inside.resize = "squash";
        inside.size = {static_cast<std::size_t>(both.rows.resized), static_cast<std::size_t>(both.columns.resized)};
        return detail::padded(display_image(photo, inside), both, preprocessing);
    }
    if (preprocessing.resize == "crop_first") {
        const Photo part = detail::visible_part(photo, both);
        Preprocessing rest = preprocessing;
        rest.resize = "squash";
        return display_image(part, rest);
    }
    const auto &[rows, columns] = both;
    if (preprocessing.interpolation == "cv2-linear") {
        return detail::resized_linearly(photo, preprocessing.size);
    }
    if (preprocessing.interpolation == "nearest") {
        return detail::picked(photo, detail::nearest(rows), detail::nearest(columns));
    }
    const detail::Kernel kernel = detail::kernel(preprocessing.interpolation);
    // Averaging whole blocks first, down to 4 to 8 times the size wanted, bounds time and memory for large photos.
    const auto shrunk = [](const detail::Axis &axis) {
        const auto resized = static_cast<std::int64_t>(axis.resized);
        return static_cast<std::size_t>(axis.whole / std::max<std::int64_t>(axis.whole / 4 / resized, 1));
    };
    const Size smaller{shrunk(rows), shrunk(columns)};
    const Photo averaged = smaller == photo.size ? Photo{} : detail::shrink_area(photo, smaller);
    const std::uint8_t *from = smaller == photo.size ? photo.rgb : averaged.rgb.data();
    // The axis that loses most goes first, or a sliver of a photo would be blown up before it is cut.
    const auto left = [](const detail::Axis &axis, std::size_t n) {
        return static_cast<double>(axis.size) / static_cast<double>(n);
    };
    // Filters with negative weights leave the range. Pillow (to 12) cuts that off after the columns, which go first.
    const bool bilinear = preprocessing.interpolation == "bilinear";
    const bool sliver = smaller.height > 64 * static_cast<std::size_t>(rows.size);
    const bool rows_first = (bilinear || sliver) && left(rows, smaller.height) <= left(columns, smaller.width);
    detail::Pixels seen = rows_first ? detail::resized_rows(from, smaller, rows, kernel)
                                     : detail::resized_columns(from, smaller, columns, kernel);
    if (!bilinear) {
        std::transform(seen.values.begin(), seen.values.end(), seen.values.begin(), detail::to_byte);
    }
    seen = rows_first ? detail::resized_columns(seen.values.data(), seen.size, columns, kernel)
                      : detail::resized_rows(seen.values.data(), seen.size, rows, kernel);
    Photo result{seen.size, std::vector<std::uint8_t>(seen.values.size())};
    std::transform(seen.values.begin(), seen.values.end(), result.rgb.begin(), detail::to_byte);
    return result;
}

/// A map of the model's input at the photo's own resolution: resizing and cutting undone, bilinear between pixel
/// centres. What the model never saw of the photo is 0. Throws UsageError where the map is not of the model's size, or
/// the photo has no pixels.
inline Saliency on_photo(const Saliency &saliency, Size photo, const Preprocessing &preprocessing) {
    const Size size = preprocessing.size;
    if (saliency.size != size || saliency.values.size() != size.height * size.width || !photo.height || !photo.width) {
        throw UsageError("a map of " + saliency.size.text() + " cannot be put on a photo of " + photo.text() +
                         ": it must be of the model's input, " + size.text() + ", and the photo not empty");
    }
    Saliency whole{photo, std::vector<float>(photo.height * photo.width, 0.0F)};
    const auto [rows, columns] = detail::axes(photo, preprocessing);
    const auto [top, bottom] = rows.seen();
    const auto [left, right] = columns.seen();
    const auto across = columns.taps(left, right), down = rows.taps(top, bottom);
    for (std::size_t i = 0; i < down.size(); ++i) {
        const float *low = &saliency.values[down[i].low * size.width];
        const float *high = &saliency.values[down[i].high * size.width];
        float *to = &whole.values[(top + i) * photo.width + left];
        for (std::size_t j = 0; j < across.size(); ++j) {
            const detail::Tap &tap = across[j];
            const float above = low[tap.low] * (1 - tap.weight) + low[tap.high] * tap.weight;
            const float below = high[tap.low] * (1 - tap.weight) + high[tap.high] * tap.weight;
            to[j] = above * (1 - down[i].weight) + below * down[i].weight;
        }
    }
    return whole;
}

/// A photo in grey: the luma of its colours, as Pillow's L has it.
inline Photo in_grey(const PhotoView &photo) {
    Photo result{photo.size, std::vector<std::uint8_t>(3 * photo.size.height * photo.size.width)};
    for (std::size_t i = 0; i < result.rgb.size(); i += 3) {
        const std::uint32_t luma = 19595U * photo.rgb[i] + 38470U * photo.rgb[i + 1] + 7471U * photo.rgb[i + 2];
        std::fill_n(&result.rgb[i], 3, static_cast<std::uint8_t>((luma + 0x8000U) >> 16U));
    }
    return result;
}

/// A photo as the model takes it: resized, then normalised; (C, H, W) float32, channels in the model's order.
inline std::vector<float> preprocess(const PhotoView &photo, const Preprocessing &p) {
    const Photo shown = p.channel_order == "grey" ? display_image(in_grey(photo), p) : display_image(photo, p);
    const std::size_t pixels = p.size.height * p.size.width;
    std::vector<float> x(p.channels() * pixels);
    const auto rescale = static_cast<float>(p.rescale);
    const detail::Axes both = detail::axes(photo.size, p);
    const auto [top, bottom] = both.rows.filled();
    const auto [left, right] = both.columns.filled();
    for (std::size_t c = 0; c < p.channels(); ++c) {
        const std::size_t channel = p.channel_order == "bgr" ? 2 - c : c;
        const auto mean = static_cast<float>(p.mean[c]), std = static_cast<float>(p.std[c]);
        for (std::size_t i = 0; i < pixels; ++i) {
            const std::size_t row = i / p.size.width, column = i % p.size.width;
            const bool is_photo = top <= row && row < bottom && left <= column && column < right;
            // The padding need not be a whole number.
            const auto pixel = is_photo ? static_cast<float>(shown.rgb[3 * i + channel]) : static_cast<float>(p.pad[c]);
            x[c * pixels + i] = (pixel * rescale - mean) / std;
        }
    }
    return x;
}

/// Whether no pixel of a model input, (C, H, W) float32, is above a quarter of white; bands have no white.
inline bool is_dark(const float *x, const Preprocessing &p) {
    const std::size_t pixels = p.size.height * p.size.width;
    for (std::size_t i = 0; i < p.channels() * pixels; ++i) {
        const std::size_t c = i / pixels;
        const float pixel = (x[i] * static_cast<float>(p.std[c]) + static_cast<float>(p.mean[c])) /
                            static_cast<float>(p.rescale);
        if (std::nearbyint(pixel) > 64) {
            return false;
        }
    }
    return p.takes_photos();
}

} // namespace fusioncam

#endif
