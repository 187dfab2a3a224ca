# Gives the target onnxruntime::onnxruntime: the one there is, the folder ONNXRUNTIME_ROOT (with include and lib, as in
# a release archive), the release archive at ONNXRUNTIME_URL, onnxruntime's CMake package, or what lies in system
# folders.
# Said to be a path, what -D gives is relative to where cmake was called. Only then: a project's own variable stays.
if(DEFINED CACHE{ONNXRUNTIME_ROOT})
    set(ONNXRUNTIME_ROOT "" CACHE PATH "Folder with include and lib")
endif()
if(NOT TARGET onnxruntime::onnxruntime)
    if(NOT ONNXRUNTIME_ROOT AND DEFINED ENV{ONNXRUNTIME_ROOT})
        set(ONNXRUNTIME_ROOT $ENV{ONNXRUNTIME_ROOT})
    endif()
    if(NOT ONNXRUNTIME_ROOT AND ONNXRUNTIME_URL)
        include(FetchContent)
        FetchContent_Declare(onnxruntime_release URL ${ONNXRUNTIME_URL})
        FetchContent_MakeAvailable(onnxruntime_release)
        set(ONNXRUNTIME_ROOT ${onnxruntime_release_SOURCE_DIR})
    endif()
    if(NOT ONNXRUNTIME_ROOT)
        find_package(onnxruntime CONFIG QUIET)
    endif()
endif()
if(NOT TARGET onnxruntime::onnxruntime)
    # A folder that is given is the only one searched, so that headers and library belong together.
    if(ONNXRUNTIME_ROOT)
        set(where PATHS ${ONNXRUNTIME_ROOT} NO_DEFAULT_PATH)
    endif()
    find_path(ONNXRUNTIME_INCLUDE onnxruntime_cxx_api.h ${where} PATH_SUFFIXES include include/onnxruntime onnxruntime)
    find_library(ONNXRUNTIME_LIBRARY onnxruntime ${where} PATH_SUFFIXES lib lib64)
    if(NOT ONNXRUNTIME_INCLUDE OR NOT ONNXRUNTIME_LIBRARY)
        message(
            FATAL_ERROR
            "fusioncam: no onnxruntime with C++ headers here; set ONNXRUNTIME_ROOT to the folder of an unpacked "
            "release, or ONNXRUNTIME_URL to where its archive is"
        )
    endif()
    add_library(onnxruntime::onnxruntime UNKNOWN IMPORTED GLOBAL)
    set_target_properties(
        onnxruntime::onnxruntime
        PROPERTIES IMPORTED_LOCATION ${ONNXRUNTIME_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${ONNXRUNTIME_INCLUDE}
    )
endif()
