-- Which asking of its generation and attempt a device was last told; NULL in rows of before.

ALTER TABLE device ADD COLUMN question INTEGER;
