package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// place is where a key stands in the configuration file.
type place struct {
	line   int
	number bool // its value is a bare number
}

// findPlaces finds every key and table of a configuration; the tables of an array have their numbers, from 1, in their names:
// smtp.partners[1]. Broken syntax ends it: the decoder tells of that.
func findPlaces(b []byte) map[string]place {
	at := map[string]place{}
	var p unstable.Parser
	p.Reset(b)
	table, number := "", map[string]int{}
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			table = notePlace(at, &p, "", e)
		case unstable.ArrayTable:
			name := notePlace(at, &p, "", e)
			number[name]++
			table = fmt.Sprintf("%s[%d]", name, number[name])
			at[table] = place{line: p.Shape(e.Child().Raw).Start.Line}
		case unstable.KeyValue:
			notePlaces(at, &p, table, e)
		}
	}
	return at
}

// notePlaces notes a key and, where its value is a table, those within.
func notePlaces(at map[string]place, p *unstable.Parser, table string, kv *unstable.Node) {
	key := notePlace(at, p, table, kv)
	if v := kv.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			notePlaces(at, p, key, it.Node())
		}
	}
}

// notePlace notes one key or table, whose name begins with that of its table.
func notePlace(at map[string]place, p *unstable.Parser, table string, e *unstable.Node) string {
	var names []string
	if table != "" {
		names = append(names, table)
	}
	here := place{}
	for it := e.Key(); it.Next(); {
		names = append(names, string(it.Node().Data))
		here.line = p.Shape(it.Node().Raw).Start.Line
	}
	if e.Kind == unstable.KeyValue {
		kind := e.Value().Kind
		here.number = kind == unstable.Integer || kind == unstable.Float
	}
	key := strings.Join(names, ".")
	if _, twice := at[key]; !twice {
		at[key] = here
	}
	return key
}

// locate says on which lines faults stand: that of the key, or of the table that it is missing in.
func locate(at map[string]place, faults []fault) []fault {
	for i := range faults {
		f := &faults[i]
		for key := f.Key; f.Line == 0 && key != ""; {
			f.Line = at[key].line
			key = key[:max(0, strings.LastIndexAny(key, ".["))]
		}
	}
	return sorted(faults)
}

// bareDurations are the durations that were given as a number: the decoder would take it for nanoseconds.
func bareDurations(at map[string]place) []fault {
	var faults []fault
	for _, key := range durationKeys(reflect.TypeFor[Config](), "") {
		if p := at[key]; p.number {
			faults = append(faults, fault{Key: key, Line: p.line, Text: `is a number; expected a duration with its unit, in quotes ("30s", "5m", "24h", "7d")`})
		}
	}
	return faults
}

// durationKeys are the keys of a table, and of those within, that hold a Duration.
func durationKeys(t reflect.Type, table string) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var keys []string
	switch {
	case t == reflect.TypeFor[Duration]():
		keys = append(keys, table)
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if !f.IsExported() || name == "" {
				continue
			}
			if table != "" {
				name = table + "." + name
			}
			keys = append(keys, durationKeys(f.Type, name)...)
		}
	}
	return keys
}
