// What an ONNX file says about itself (metadata_props), read without onnxruntime and without its weights.
#ifndef FUSIONCAM_ONNX_METADATA_HPP
#define FUSIONCAM_ONNX_METADATA_HPP

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

#include "error.hpp"
#include "interface.hpp"
#include "manifest.hpp"

namespace fusioncam {
namespace detail {

/// Walks over the fields of a protobuf message in a stream, and reads those that are asked for.
class MessageReader {
  public:
    /// `size` is that of the message in bytes; `in` stands at its begin.
    MessageReader(std::istream &in, std::uint64_t size) : in_(in), left_(size) {}

    /// Goes to the next field, and gives whether there is one; what is left of the one before is skipped.
    bool next() {
        skip(length_);
        length_ = 0;
        if (left_ == 0) {
            return false;
        }
        const std::uint64_t key = varint();
        field_ = key >> 3;
        is_bytes_ = (key & 7) == 2;
        switch (key & 7) {
        case 0:
            varint();
            return true;
        case 1:
            length_ = 8;
            break;
        case 2:
            length_ = varint();
            break;
        case 5:
            length_ = 4;
            break;
        default:
            throw Malformed();
        }
        if (length_ > left_) {
            throw Malformed();
        }
        return true;
    }

    /// Whether the field has this number, and holds bytes.
    bool is(std::uint64_t field) const { return field_ == field && is_bytes_; }

    /// The bytes of the field; throws Malformed where there are more than `most`.
    std::string bytes(std::uint64_t most) {
        if (length_ > most) {
            throw Malformed();
        }
        std::string result(static_cast<std::size_t>(length_), '\0');
        if (!in_.read(result.data(), static_cast<std::streamsize>(length_))) {
            throw Malformed();
        }
        left_ -= length_;
        length_ = 0;
        return result;
    }

    /// The bytes are no message of this kind.
    struct Malformed {};

  private:
    void skip(std::uint64_t count) {
        if (count && !in_.seekg(static_cast<std::streamoff>(count), std::ios::cur)) {
            throw Malformed();
        }
        left_ -= count;
    }

    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64 && left_ > 0; shift += 7) {
            const int byte = in_.get();
            --left_;
            if (byte < 0) {
                break;
            }
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (!(byte & 0x80)) {
                return value;
            }
        }
        throw Malformed();
    }

    std::istream &in_;
    std::uint64_t left_, length_ = 0, field_ = 0;
    bool is_bytes_ = false;
};

/// The metadata of an ONNX file; throws BundleError where it cannot be read as one.
inline std::map<std::string, std::string> onnx_metadata(const std::filesystem::path &path) {
    constexpr std::uint64_t METADATA = 14, KEY = 1, VALUE = 2, MOST = 1 << 24; // as onnx.proto numbers the fields
    std::error_code unreadable;
    const std::uint64_t size = std::filesystem::file_size(path, unreadable);
    std::ifstream file(path, std::ios::binary);
    std::map<std::string, std::string> result;
    try {
        if (unreadable || !file) {
            throw MessageReader::Malformed();
        }
        for (MessageReader model(file, size); model.next();) {
            if (!model.is(METADATA)) {
                continue;
            }
            std::istringstream entry(model.bytes(MOST));
            std::string key, value;
            for (MessageReader fields(entry, entry.str().size()); fields.next();) {
                if (fields.is(KEY)) {
                    key = fields.bytes(MOST);
                } else if (fields.is(VALUE)) {
                    value = fields.bytes(MOST);
                }
            }
            result[key] = value;
        }
    } catch (const MessageReader::Malformed &) {
        throw BundleError("cannot read " + path_text(path) + " as an ONNX file; export the model again, with --single");
    }
    return result;
}

/// The manifest in the metadata of a bundle's single graph.
inline Manifest manifest_of(const std::filesystem::path &bundle) {
    const std::filesystem::path file = graph_file(bundle);
    const std::map<std::string, std::string> metadata = onnx_metadata(file);
    return read_manifest(path_text(file), [&metadata](const std::string &key) {
        const auto found = metadata.find(key);
        return found == metadata.end() ? std::nullopt : std::optional<std::string>(found->second);
    });
}

} // namespace detail
} // namespace fusioncam

#endif
