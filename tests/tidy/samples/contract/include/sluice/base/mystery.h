#pragma once

int mystery();
