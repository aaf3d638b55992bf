// asio_file: here Boost is at home.
#pragma once

#include <boost/asio.hpp>
