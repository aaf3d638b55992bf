int magic();
