package backup

import (
	"context"
	"io"
)

// CheckPlain is [Reader.Check] of a backup that is neither encrypted nor packed.
func CheckPlain(ctx context.Context, r io.Reader) (Report, error) {
	file, err := newFileReader(r)
	if err != nil {
		return Report{}, err
	}
	return file.Check(ctx, nil, nil)
}

// RoundTrip writes a value of a column as a backup does and reads it again.
func RoundTrip(kind string, src any) (any, error) {
	c := cell{kind: kind}
	if err := c.Scan(src); err != nil {
		return nil, err
	}
	text, err := c.append(nil)
	if err != nil {
		return nil, err
	}
	back := cell{kind: kind}
	return back.value2(back.parse(text))
}

func (c *cell) value2(err error) (any, error) { return c.value(), err }
