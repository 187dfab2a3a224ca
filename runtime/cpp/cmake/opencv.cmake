# Gives the target fusioncam::opencv: fusioncam with fusioncam/opencv.hpp. Needs core, imgproc and imgcodecs only, which
# Debian's libopencv-imgcodecs-dev has without OpenCV's own CMake package.
find_package(OpenCV QUIET COMPONENTS core imgproc imgcodecs)
if(NOT OpenCV_FOUND)
    find_path(FUSIONCAM_OPENCV_INCLUDE opencv2/imgcodecs.hpp PATH_SUFFIXES opencv5 opencv4)
    set(OpenCV_INCLUDE_DIRS ${FUSIONCAM_OPENCV_INCLUDE})
    set(OpenCV_LIBS)
    foreach(part core imgproc imgcodecs)
        find_library(FUSIONCAM_OPENCV_${part} opencv_${part})
        list(APPEND OpenCV_LIBS ${FUSIONCAM_OPENCV_${part}})
    endforeach()
    if(NOT FUSIONCAM_OPENCV_INCLUDE OR OpenCV_LIBS MATCHES "NOTFOUND")
        message(
            FATAL_ERROR
            "fusioncam: no OpenCV here; install it, set OpenCV_DIR, or do without: -DFUSIONCAM_OPENCV=OFF"
        )
    endif()
endif()
if(NOT TARGET fusioncam::opencv)
    add_library(fusioncam::opencv INTERFACE IMPORTED GLOBAL)
    target_compile_definitions(fusioncam::opencv INTERFACE FUSIONCAM_WITH_OPENCV)
    target_include_directories(fusioncam::opencv INTERFACE ${OpenCV_INCLUDE_DIRS})
    target_link_libraries(fusioncam::opencv INTERFACE fusioncam::fusioncam ${OpenCV_LIBS})
endif()
