#pragma once

#include "sluice/io/file.h"

int magic();
