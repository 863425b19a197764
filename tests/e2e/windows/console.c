/* console EVENT PROGRAM ARGUMENTS: starts the program, waits for a line on standard input, sends the console event 0 (Ctrl-C) or 1
   (Ctrl-Break) to the program, and ends with its exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

/* This program gets the event, too. */
static BOOL WINAPI ignore(DWORD event) { return event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT; }

int wmain(int count, wchar_t **arguments) {
  if (count < 3) return 100;
  STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};
  /* A new console would replace them. */
  startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
  startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
  startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  if (!GetConsoleWindow()) {
    FreeConsole();
    if (!AllocConsole()) return 101;
  }
  if (!SetConsoleCtrlHandler(ignore, TRUE)) return 102;
  /* The rest of the command line, quoted as it is. */
  wchar_t *command = wcsstr(GetCommandLineW(), arguments[1]) + wcslen(arguments[1]);
  while (*command == L' ' || *command == L'"') command++;
  if (command[-1] == L'"') command--;
  PROCESS_INFORMATION process;
  if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) return 103;
  getchar();
  if (!GenerateConsoleCtrlEvent((DWORD)_wtoi(arguments[1]), 0)) return 104;
  WaitForSingleObject(process.hProcess, INFINITE);
  DWORD code;
  return GetExitCodeProcess(process.hProcess, &code) ? (int)code : 105;
}
