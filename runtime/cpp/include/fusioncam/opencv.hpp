// Reading and writing pictures with OpenCV, and going to and fro between its matrices and ours.
#ifndef FUSIONCAM_OPENCV_HPP
#define FUSIONCAM_OPENCV_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "error.hpp"
#include "file.hpp"
#include "format.hpp"
#include "mask.hpp"
#include "misread.hpp"
#include "overlay.hpp"
#include "picture.hpp"

namespace fusioncam {

/// The picture in a matrix of 8-bit BGR, which is what OpenCV reads and its cameras give; throws ImageError otherwise.
inline Photo from_bgr(const cv::Mat &bgr) {
    if (bgr.dims != 2 || bgr.type() != CV_8UC3) {
        throw ImageError("a picture must be a matrix of 8-bit BGR (CV_8UC3): convert it first");
    }
    Photo photo{{static_cast<std::size_t>(bgr.rows), static_cast<std::size_t>(bgr.cols)}, {}};
    photo.rgb.resize(photo.size.height * photo.size.width * 3);
    if (!photo.rgb.empty()) {
        cv::Mat rgb(bgr.rows, bgr.cols, CV_8UC3, photo.rgb.data());
        cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    }
    return photo;
}

/// The mask in a matrix (H, W) of one channel: what is not zero is inside; throws ImageError otherwise.
inline Mask mask_of(const cv::Mat &matrix) {
    if (matrix.dims != 2 || matrix.channels() != 1 || matrix.empty()) {
        throw ImageError("a mask must be a matrix of one channel, of the photo's size");
    }
    const cv::Mat inside = matrix != 0; // without gaps between rows
    const Size size{static_cast<std::size_t>(inside.rows), static_cast<std::size_t>(inside.cols)};
    return {size, {inside.data, inside.data + inside.total()}};
}

/// The picture as a matrix of 8-bit BGR.
inline cv::Mat to_bgr(const PhotoView &photo) {
    cv::Mat bgr;
    if (photo.size.height && photo.size.width) {
        const cv::Mat rgb(static_cast<int>(photo.size.height), static_cast<int>(photo.size.width), CV_8UC3,
                          const_cast<std::uint8_t *>(photo.rgb));
        cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
    }
    return bgr;
}

/// A map as a matrix (CV_32FC1) of its own.
inline cv::Mat to_matrix(const Saliency &saliency) {
    return cv::Mat(static_cast<int>(saliency.size.height), static_cast<int>(saliency.size.width), CV_32FC1,
                   const_cast<float *>(saliency.values.data()))
        .clone();
}

/// Decodes a picture: EXIF orientation applied, grey spread over three channels, alpha dropped, 16 bits scaled to 8.
///
/// A file that declares more than MAX_PIXELS is refused before it is decoded. Throws ImageError, which calls it `name`,
/// where it is no picture, is damaged, cut short or too large, its pixels are neither 8 nor 16 bits, or OpenCV would
/// read it otherwise than it is meant.
inline Photo decode_image(const std::vector<std::uint8_t> &data, const std::string &name = "the picture") {
    const auto refuse_large = [&name](std::uint64_t pixels) {
        if (pixels > MAX_PIXELS) {
            throw ImageError(name + " has " + detail::thousands(pixels) + " pixels, the limit is " +
                             detail::thousands(MAX_PIXELS) + ": shrink it first");
        }
    };
    if (data.empty()) {
        throw ImageError(name + " is empty: copy or download the picture again");
    }
    refuse_large(detail::declared_pixels(data));
    if (const std::string reason = detail::misread(data); !reason.empty()) {
        throw ImageError(name + " " + reason);
    }
    cv::Mat decoded;
    if (detail::is_whole(data)) {
        const int depth = detail::is_deep(data) ? 0 : cv::IMREAD_ANYDEPTH;
        try {
            decoded = cv::imdecode(data, cv::IMREAD_COLOR | depth);
        } catch (const cv::Exception &) { // as if it were no picture
        }
    }
    if (decoded.empty()) {
        throw ImageError(name + " is not a picture, or is damaged or cut short: save it again as PNG or JPEG");
    }
    refuse_large(decoded.total());
    if (decoded.depth() == CV_16U) {
        decoded.convertTo(decoded, CV_8U, 1.0 / 257);
    }
    if (decoded.depth() != CV_8U) {
        constexpr std::array<const char *, 8> types{"uint8", "int8",    "uint16",  "int16",
                                                    "int32", "float32", "float64", "float16"};
        throw ImageError(name + " has " + types.at(static_cast<std::size_t>(decoded.depth())) +
                         " pixels, whose range is unknown: save it with 8 or 16 bits");
    }
    return from_bgr(decoded);
}

/// Reads a picture as `decode_image` does; throws ImageError also where there is no such file, or it may not be read.
inline Photo read_image(const std::filesystem::path &path) {
    return decode_image(detail::read_file(path), detail::quoted(detail::path_text(path)));
}

/// Writes a picture in the format its name ends with, whole or not at all; throws OutputError where it cannot.
inline void write_image(const std::filesystem::path &path, const PhotoView &photo) {
    std::vector<std::uint8_t> encoded;
    bool done = false;
    try {
        done = cv::imencode(detail::path_text(path.extension()), to_bgr(photo), encoded);
    } catch (const cv::Exception &) { // an ending it does not know, or an empty picture
    }
    if (!done) {
        throw OutputError("cannot write " + detail::quoted(detail::path_text(path)) +
                          ": it is no format OpenCV writes, or the picture is empty: name it .png or .jpg");
    }
    detail::write_file(path, encoded);
}

/// The colours of one of OpenCV's colour maps; throws UsageError where there is none of that name.
inline Colors color_table(const std::string &colormap) {
    const std::vector<std::pair<std::string, int>> known{
        {"cividis", cv::COLORMAP_CIVIDIS}, {"inferno", cv::COLORMAP_INFERNO}, {"jet", cv::COLORMAP_JET},
        {"magma", cv::COLORMAP_MAGMA},     {"plasma", cv::COLORMAP_PLASMA},   {"turbo", cv::COLORMAP_TURBO},
        {"viridis", cv::COLORMAP_VIRIDIS}};
    std::string names;
    for (const auto &[name, code] : known) {
        if (name != colormap) {
            names += (names.empty() ? "" : ", ") + name;
            continue;
        }
        cv::Mat steps(1, 256, CV_8UC1), bgr;
        Colors colors{};
        for (int i = 0; i < 256; ++i) {
            steps.at<std::uint8_t>(0, i) = static_cast<std::uint8_t>(i);
        }
        cv::applyColorMap(steps, bgr, code);
        for (int i = 0; i < 256; ++i) {
            const auto &color = bgr.at<cv::Vec3b>(0, i);
            colors[static_cast<std::size_t>(i)] = {color[2], color[1], color[0]};
        }
        return colors;
    }
    throw UsageError("no colour map " + detail::quoted(colormap) + ": choose one of " + names);
}

} // namespace fusioncam

#endif
