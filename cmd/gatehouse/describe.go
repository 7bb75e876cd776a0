package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// describe gives a domain error as a line for a terminal, with its fields.
func describe(err error) error {
	f, ok := fault.As(err)
	if ok && f.Code == "unknown_organization" {
		return fmt.Errorf("%w (`gatehouse org list` shows those there are)", err)
	}
	if !ok || len(f.Fields) == 0 {
		return err
	}
	var parts []string
	for _, field := range f.Fields {
		parts = append(parts, field.Name+" "+field.Message)
	}
	return errors.New(strings.Join(parts, "; "))
}
