// Where a photo lands in the model's input, and the way back: the arithmetic of Python's runtime/geometry.py.
#ifndef FUSIONCAM_GEOMETRY_HPP
#define FUSIONCAM_GEOMETRY_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "shrink.hpp"

namespace fusioncam {
namespace detail {

constexpr double pi = 3.14159265358979323846;

/// Bilinear interpolation along an axis, one entry per output: (1 - weight) in[low] + weight in[high].
struct Tap {
    std::size_t low, high;
    float weight;
};

/// One axis of a photo: its `whole` pixels are resized to `resized`, of which `size` are kept, from `start` on. Where
/// the photo is cut before it is resized, `resized` and `start` are what they would be of the whole photo.
struct Axis {
    std::int64_t whole;
    double resized, start;
    std::int64_t size;

    /// First of the photo's pixels whose centres the cut kept, and the one after the last; at least one pixel.
    std::pair<std::size_t, std::size_t> seen() const {
        const auto pixel = [this](double edge) {
            return static_cast<std::int64_t>(std::ceil(edge * static_cast<double>(whole) / resized - 0.5));
        };
        const std::int64_t first = std::min(pixel(start), whole - 1);
        const std::int64_t end = std::min(std::max(pixel(start + static_cast<double>(size)), first + 1), whole);
        return {static_cast<std::size_t>(first), static_cast<std::size_t>(end)};
    }

    /// Where the centres of the photo's pixels from `first` to `end` - 1 landed between those of the model's input.
    std::vector<Tap> taps(std::size_t first, std::size_t end) const {
        std::vector<Tap> result;
        result.reserve(end - first);
        for (std::size_t i = first; i < end; ++i) {
            const double centre = static_cast<double>(i) + 0.5;
            const double place = centre * resized / static_cast<double>(whole) - 0.5;
            const double at = std::clamp(place - start, 0.0, static_cast<double>(size - 1));
            const auto low = static_cast<std::size_t>(at);
            const std::size_t high = std::min(low + 1, static_cast<std::size_t>(size - 1));
            result.push_back({low, high, static_cast<float>(at - static_cast<double>(low))});
        }
        return result;
    }
};

struct Axes {
    Axis rows, columns;
};

/// Rows and columns of a photo on their way to the model, rounded as those who trained it round them.
inline Axes axes(Size photo, const Preprocessing &p) {
    const auto ratio = [](std::size_t a, std::size_t b) { return static_cast<double>(a) / static_cast<double>(b); };
    const double scale = std::max(ratio(p.size.height, photo.height), ratio(p.size.width, photo.width));
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
        // The small term keeps 255.99999 from becoming 255.
        const double resized = p.resize == "squash_crop"
                                   ? std::nearbyint(wanted / p.crop_fraction)
                                   : std::max(std::floor(all * (scale / p.crop_fraction) + 1e-6), wanted);
        return Axis{whole, resized, half(resized - wanted), size};
    };
    return {axis(photo.height, p.size.height), axis(photo.width, p.size.width)};
}

/// sin(pi x) / (pi x).
inline double sinc(double x) { return x == 0 ? 1 : std::sin(pi * x) / (pi * x); }

/// The filters of Pillow: how many samples they reach to either side, and the weight at a distance from the centre.
struct Kernel {
    double reach;
    double (*weight)(double);
};

inline Kernel kernel(const std::string &interpolation) {
    if (interpolation == "bicubic") {
        return {2, [](double d) {
                    const double near = (1.5 * d - 2.5) * d * d + 1, far = ((-0.5 * d + 2.5) * d - 4) * d + 2;
                    return d < 1 ? near : d < 2 ? far : 0.0;
                }};
    }
    if (interpolation == "lanczos") {
        return {3, [](double d) { return d < 3 ? sinc(d) * sinc(d / 3) : 0.0; }};
    }
    if (interpolation == "hamming") {
        return {1, [](double d) { return d < 1 ? sinc(d) * (0.54 + 0.46 * std::cos(pi * d)) : 0.0; }};
    }
    if (interpolation == "box") {
        return {0.5, [](double d) { return d <= 0.5 ? 1.0 : 0.0; }};
    }
    return {1, [](double d) { return std::max(1 - d, 0.0); }};
}

/// What makes one output of a resized axis: inputs from `first` on, by weights that sum to 1.
struct Filter {
    std::size_t first = 0;
    std::vector<float> weights;
};

/// Resizes an axis of `source` samples to axis.resized, and keeps those of the cut, by a filter as wide as the shrink
/// factor, never narrower than for equal sizes.
inline std::vector<Filter> filters(const Axis &axis, std::size_t source, const Kernel &kernel) {
    const auto last = static_cast<std::int64_t>(source) - 1;
    const double factor = static_cast<double>(source) / axis.resized;
    const double stretch = std::max(factor, 1.0), reach = kernel.reach * stretch;
    std::vector<Filter> result(static_cast<std::size_t>(axis.size));
    double middle = axis.start + 0.5;
    for (Filter &filter : result) {
        const double centre = middle * factor - 0.5;
        const auto begin = static_cast<std::int64_t>(std::floor(centre - reach)) + 1;
        const auto end = begin + static_cast<std::int64_t>(std::ceil(2 * reach)) - 1;
        filter.first = static_cast<std::size_t>(std::clamp<std::int64_t>(begin, 0, last));
        std::vector<double> exact;
        for (std::int64_t tap = std::max<std::int64_t>(begin, 0); tap <= std::min(end, last); ++tap) {
            exact.push_back(kernel.weight(std::abs(static_cast<double>(tap) - centre) / stretch));
        }
        const double sum = std::accumulate(exact.begin(), exact.end(), 0.0);
        for (const double weight : exact) {
            filter.weights.push_back(static_cast<float>(weight / sum));
        }
        middle += 1;
    }
    return result;
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

/// Values (H, W, 3) under way.
struct Pixels {
    Size size;
    std::vector<float> values;
};

template <typename Value>
Pixels resized_rows(const Value *from, Size size, const Axis &axis, const Kernel &kernel) {
    const std::vector<Filter> rows = filters(axis, size.height, kernel);
    const std::size_t length = size.width * 3;
    Pixels result{{rows.size(), size.width}, std::vector<float>(rows.size() * length)};
    for (std::size_t i = 0; i < rows.size(); ++i) {
        for (std::size_t t = 0; t < rows[i].weights.size(); ++t) {
            const Value *row = from + (rows[i].first + t) * length;
            for (std::size_t k = 0; k < length; ++k) {
                result.values[i * length + k] += static_cast<float>(row[k]) * rows[i].weights[t];
            }
        }
    }
    return result;
}

template <typename Value>
Pixels resized_columns(const Value *from, Size size, const Axis &axis, const Kernel &kernel) {
    const std::vector<Filter> columns = filters(axis, size.width, kernel);
    Pixels result{{size.height, columns.size()}, std::vector<float>(size.height * columns.size() * 3)};
    float *to = result.values.data();
    for (std::size_t y = 0; y < size.height; ++y, from += size.width * 3) {
        for (const Filter &column : columns) {
            for (std::size_t t = 0; t < column.weights.size(); ++t) {
                for (std::size_t c = 0; c < 3; ++c) {
                    to[c] += static_cast<float>(from[(column.first + t) * 3 + c]) * column.weights[t];
                }
            }
            to += 3;
        }
    }
    return result;
}

} // namespace detail

/// What the model sees of a photo, pixel for pixel: its maps lie on this picture.
/// `squash` resizes to the model's size and ignores the aspect ratio; `crop` resizes the photo, aspect ratio kept,
/// until it just covers size / crop_fraction, then cuts the size out of the centre; `squash_crop` resizes to
/// size / crop_fraction, aspect ratio ignored, then cuts; `crop_first` cuts the largest centred part of the size's
/// aspect ratio, times crop_fraction, and resizes that. Of the model's size already, a photo stays as it is.
inline Photo display_image(const PhotoView &photo, const Preprocessing &preprocessing) {
    const detail::Axes both = detail::axes(photo.size, preprocessing);
    if (preprocessing.resize == "crop_first") {
        const Photo part = detail::visible_part(photo, both);
        Preprocessing rest = preprocessing;
        rest.resize = "squash";
        return display_image(part, rest);
    }
    const auto &[rows, columns] = both;
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

/// A photo as the model takes it: resized, then normalised; (3, H, W) float32, channels in the model's order.
inline std::vector<float> preprocess(const PhotoView &photo, const Preprocessing &p) {
    const Photo shown = display_image(photo, p);
    const std::size_t pixels = p.size.height * p.size.width;
    std::vector<float> x(3 * pixels);
    const auto rescale = static_cast<float>(p.rescale);
    for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t channel = p.channel_order == "bgr" ? 2 - c : c;
        const auto mean = static_cast<float>(p.mean[c]), std = static_cast<float>(p.std[c]);
        for (std::size_t i = 0; i < pixels; ++i) {
            x[c * pixels + i] = (static_cast<float>(shown.rgb[3 * i + channel]) * rescale - mean) / std;
        }
    }
    return x;
}

/// Whether no pixel of a model input, (3, H, W) float32, is above a quarter of white.
inline bool is_dark(const float *x, const Preprocessing &p) {
    const std::size_t pixels = p.size.height * p.size.width;
    for (std::size_t i = 0; i < 3 * pixels; ++i) {
        const std::size_t c = i / pixels;
        const float pixel = (x[i] * static_cast<float>(p.std[c]) + static_cast<float>(p.mean[c])) /
                            static_cast<float>(p.rescale);
        if (std::nearbyint(pixel) > 64) {
            return false;
        }
    }
    return true;
}

} // namespace fusioncam

#endif
