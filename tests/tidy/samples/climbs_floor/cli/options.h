#pragma once

int port();
