// Package command is the command line: each command in a file of its own, the
// parts of the router built from a configuration, listeners, reload and log.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/inference-router/inference-router/internal/config"
)

// command is one word of the command line.
type command struct {
	name    string
	args    string // as the usage line shows them
	summary string
	// setup declares the command's flags and returns what runs it. The rest
	// are the words after the flags.
	setup func(flags *flag.FlagSet) func(ctx context.Context, c console, rest []string) error
}

// console is where a command writes: its result, and all else.
type console struct{ out, err io.Writer }

func commands() []command {
	return []command{
		{"serve", "[-config F]", "serves the configuration; what runs without a command", setupServe},
		{"demo", "[-listen A] [-seed N] [-traffic N]", "serves simulated models: no keys, no files, no network", setupDemo},
		{"check", "[-config F]", "validates the configuration and shows the prices that will be billed", setupCheck},
		{"explain", `[-conf F] [-json] "prompt"`, "shows how a prompt would be routed, and why", setupExplain},
		{"healthcheck", "[-config F]", "asks the configured listener whether it is alive: exit code 0 or 1", setupHealthcheck},
		{"version", "", "prints version, commit and Go version", setupVersion},
	}
}

// defaultCommand runs when the first word is a flag or missing.
const defaultCommand = "serve"

// usageError is wrong usage: exit code 2.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// Run executes a command line, with the process' surroundings as values. It
// returns the exit code: 0 fine, 1 a failure that the message explains, 2 wrong
// usage. It returns when the command is done or, for servers, when ctx ends or
// the process is told to stop.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	name := defaultCommand
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "-help" || args[0] == "help") {
		overview(out)
		return 0
	}
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		var names []string
		for _, c := range all {
			names = append(names, c.name)
		}
		fmt.Fprintf(errOut, "inference-router: unknown command %q%s\n", name, config.Suggest(name, names))
		return 2
	}
	return all[i].execute(ctx, args, console{out, errOut})
}

func (c command) execute(ctx context.Context, args []string, console console) int {
	flags := flag.NewFlagSet("inference-router "+c.name, flag.ContinueOnError)
	flags.SetOutput(console.err)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: inference-router %s %s\n\n%s %s.\n", c.name, c.args, c.name, c.summary)
		flags.PrintDefaults()
	}
	do := c.setup(flags)
	if slices.ContainsFunc(args, isHelp) {
		flags.SetOutput(console.out)
	}
	words, err := parseFlags(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // told by flags, with the usage
	}
	err = do(ctx, console, words)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(console.err, "inference-router %s: %v\n", c.name, err)
		flags.Usage()
		return 2
	}
	var problems config.Problems
	if errors.As(err, &problems) { // each line begins with the file already
		fmt.Fprintln(console.err, err)
	} else {
		fmt.Fprintf(console.err, "inference-router: %v\n", err)
	}
	return 1
}

// parseFlags takes flags before and after the words, which it returns.
func parseFlags(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
			return words, err
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

func overview(out io.Writer) {
	fmt.Fprint(out, "inference-router is an OpenAI-compatible proxy that routes each prompt to the cheapest adequate model.\n\nusage: inference-router [COMMAND]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-40s %s\n", c.name+" "+c.args, c.summary)
	}
	fmt.Fprint(out, "\nA .env file in the working directory is loaded; variables that are set already win.\n")
}

// configFlag declares -config.
func configFlag(flags *flag.FlagSet) *string {
	return flags.String("config", "config.yaml", "the configuration `file`")
}

// noWords refuses words after the flags.
func noWords(rest []string) error {
	if len(rest) > 0 {
		return &usageError{fmt.Sprintf("unexpected %q", rest[0])}
	}
	return nil
}

// loadFromFiles reads .env and then the configuration.
func loadFromFiles(file string, env *config.Dotenv) (*config.Config, error) {
	if err := env.Load(".env"); err != nil {
		return nil, err
	}
	return config.Load(file, os.LookupEnv)
}

// version and commit are what the linker was told; "" when nothing.
var version, commit string

// SetVersion says which version and commit this is, where the linker was told.
// It is called before Run.
func SetVersion(v, revision string) { version, commit = v, revision }

func setupVersion(*flag.FlagSet) func(context.Context, console, []string) error {
	return func(_ context.Context, c console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		v, revision := buildVersion()
		_, err := fmt.Fprintf(c.out, "inference-router %s\ncommit %s\n%s %s/%s\n", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}
}

// buildVersion is the version and commit, from the linker or from what the Go
// toolchain recorded.
func buildVersion() (v, revision string) {
	v, revision = version, commit
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	modified := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && revision == "":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
			modified = " (modified)"
		}
	}
	if v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "development"
	}
	if revision == "" {
		return v, "unknown"
	}
	return v, revision + modified
}
